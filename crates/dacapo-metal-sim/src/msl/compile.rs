//! Clang, and what it made before.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Checks;
use super::source::{Entry, with_calls};

/// The compiler: the one whose instrumentation and extensions the stand-in was written for.
const CLANG: &str = "clang++-19";

/// The stand-in's files, for the key of the cache and for clang.
const STDLIB: [(&str, &str); 11] = [
    ("metal_stdlib", include_str!("../../stdlib/metal_stdlib")),
    ("simd/simd.h", include_str!("../../stdlib/simd/simd.h")),
    ("parts/types.h", include_str!("../../stdlib/parts/types.h")),
    ("parts/math.h", include_str!("../../stdlib/parts/math.h")),
    ("parts/host.h", include_str!("../../stdlib/parts/host.h")),
    ("parts/shadow.h", include_str!("../../stdlib/parts/shadow.h")),
    ("parts/simdgroup.h", include_str!("../../stdlib/parts/simdgroup.h")),
    ("parts/atomic.h", include_str!("../../stdlib/parts/atomic.h")),
    ("parts/matrix.h", include_str!("../../stdlib/parts/matrix.h")),
    ("parts/names.h", include_str!("../../stdlib/parts/names.h")),
    ("compile.rs", include_str!("compile.rs")),
];

/// What all compilations say. Literals without a suffix are floats, products and sums may be fused, as in Metal.
const COMMON: [&str; 17] = [
    "-std=c++20",
    "-w",
    "-fno-exceptions",
    "-fno-rtti",
    "-nostdinc",
    "-fvisibility=hidden",
    "-fPIC",
    "-ffp-contract=fast",
    "-Xclang",
    "-cl-single-precision-constant",
    "-Xclang",
    "-ffloat16-excess-precision=none",
    "-ferror-limit=0",
    "-fno-caret-diagnostics",
    "-fno-color-diagnostics",
    "-x",
    "c++",
];

#[cfg(target_arch = "x86_64")]
const MACHINE: &str = "-march=native";
#[cfg(not(target_arch = "x86_64"))]
const MACHINE: &str = "-mcpu=native";

/// A shared object made from a text, from the cache if it was made before.
///
/// # Errors
/// What the compiler says about the text, or that there is no compiler.
pub fn shared_object(text: &str, entries: &[Entry], checks: Checks) -> Result<PathBuf, String> {
    let folder = cache()?;
    let compiled = with_calls(text, entries, checks == Checks::Bounds);
    let stem = format!("{:032x}", key(&compiled, checks));
    let made = folder.join(format!("{stem}.so"));
    if made.exists() {
        return Ok(made);
    }
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let own = format!("{stem}-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let path = |end: &str| folder.join(format!("{own}{end}"));
    let (bare, whole, object) = (path(".metal"), path(".cpp"), path(".so.part"));
    write(&bare, text)?;
    write(&whole, &compiled)?;
    let stdlib = unpack(&folder)?;
    let result = check_spaces(&stdlib, &bare).and_then(|()| build(&stdlib, &whole, &object, checks));
    for file in [&bare, &whole] {
        let _ = fs::remove_file(file);
    }
    result?;
    fs::rename(&object, &made).map_err(|error| format!("{}: {error}", made.display()))?;
    Ok(made)
}

/// Whether the compiler is there.
pub fn available() -> Result<(), String> {
    clang(Command::new(CLANG).arg("--version")).map(drop)
}

/// A folder in cargo's target folder, or the system's for temporary files.
fn cache() -> Result<PathBuf, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let folder =
        program.parent().filter(|folder| folder.ends_with("deps")).and_then(|deps| deps.parent()?.parent());
    let folder =
        folder.map_or_else(|| std::env::temp_dir().join("dacapo-metal-sim"), |f| f.join("metal-sim"));
    fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    Ok(folder)
}

fn key(text: &str, checks: Checks) -> u128 {
    // Code for one processor does not run on another.
    let machine = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let machine = machine.lines().find(|line| line.starts_with("flags") || line.starts_with("Features"));
    let half = |salt: u64| {
        let mut hasher = DefaultHasher::new();
        (salt, text, checks as u32, STDLIB, machine).hash(&mut hasher);
        u128::from(hasher.finish())
    };
    half(1) << 64 | half(2)
}

/// The stand-in as files, in a folder named after what they say.
fn unpack(folder: &Path) -> Result<PathBuf, String> {
    let mut hasher = DefaultHasher::new();
    STDLIB.hash(&mut hasher);
    let stdlib = folder.join(format!("stdlib-{:016x}", hasher.finish()));
    if stdlib.join("ready").exists() {
        return Ok(stdlib);
    }
    for (name, text) in STDLIB {
        let path = stdlib.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(|error| format!("{}: {error}", parent.display()))?;
        }
        // Another process may read it while this one writes the same: it appears whole.
        let part = stdlib.join(format!("{}.{}-{:?}", name, std::process::id(), std::thread::current().id()));
        write(&part, text)?;
        fs::rename(&part, &path).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    write(&stdlib.join("ready"), "")?;
    Ok(stdlib)
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}

fn clang(command: &mut Command) -> Result<Result<(), String>, String> {
    let output = command.output().map_err(|error| format!("{CLANG}: {error}; .ci/metal installs it"))?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Ok(if output.status.success() { Ok(()) } else { Err(said) })
}

/// Compiles without making anything, with address spaces in types.
fn check_spaces(stdlib: &Path, file: &Path) -> Result<(), String> {
    let mut command = Command::new(CLANG);
    command.args(COMMON).args(["-DSIM_SPACES", "-fsyntax-only"]).arg("-I").arg(stdlib).arg(file);
    let Err(said) = clang(&mut command)? else { return Ok(()) };
    let wrong: Vec<_> =
        said.lines().filter(|line| line.contains("error: ")).filter(|line| !copies_a_struct(line)).collect();
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
}

/// Whether the compiler complains about a struct that is copied by value from one address space to another: Metal allows
/// that, C++ does not know how. Pointers and references into a wrong space get other messages.
fn copies_a_struct(line: &str) -> bool {
    line.contains("error: no viable overloaded '='")
        || line.contains("error: no viable conversion from '__attribute__((address_space(")
}

fn build(stdlib: &Path, file: &Path, object: &Path, checks: Checks) -> Result<(), String> {
    let mut command = Command::new(CLANG);
    command.args(COMMON).arg(MACHINE).arg("-I").arg(stdlib).arg(file);
    match checks {
        Checks::Bounds => drop(command.arg("-O2")),
        Checks::All => {
            // The instrumentation's calls are the stand-in's own; its usual library stays out.
            let hidden =
                ["-mllvm", "-tsan-instrument-atomics=0", "-mllvm", "-tsan-instrument-func-entry-exit=0"];
            command
                .args(["-O1", "-DSIM_SHADOW", "-fsanitize=thread", "-fsanitize-coverage=trace-pc"])
                .args(hidden);
        }
    }
    let linked = object.with_extension("o");
    command.arg("-c").arg("-o").arg(&linked);
    let compiled = clang(&mut command)?;
    let done = compiled.and_then(|()| {
        let mut link = Command::new(CLANG);
        clang(link.args(["-shared", "-nostdlib++", "-o"]).arg(object).arg(&linked).arg("-lm"))?
    });
    let _ = fs::remove_file(linked);
    done
}
