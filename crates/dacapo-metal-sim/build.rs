//! Bindings of Objective-C ask for its libraries. In a simulation the crate itself is what they would be: the linker gets
//! archives without members.

use std::path::PathBuf;
use std::{env, fs};

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if env::var_os("CARGO_CFG_METAL_SIM").is_none() {
        return;
    }
    let folder = PathBuf::from(env::var_os("OUT_DIR").expect("cargo says where"));
    for library in ["objc", "gnustep-base"] {
        fs::write(folder.join(format!("lib{library}.a")), "!<arch>\n").expect("an archive is written");
    }
    println!("cargo:rustc-link-search=native={}", folder.display());
}
