//! What has to be known of a text: its kernels and their arguments. And what is added to it.

/// A kernel of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub name: String,
    /// Threads of a threadgroup at most, if the text says so.
    pub most_threads: Option<u32>,
    pub arguments: Vec<Argument>,
}

/// An argument of a kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Argument {
    pub place: Place,
    /// Its type, without address space and the sign of a reference or pointer.
    pub ty: String,
    pub pointer: bool,
    pub writes: bool,
}

/// Where an argument comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    Buffer(u32),
    Threadgroup(u32),
    /// What the thread is: the name of an attribute.
    Builtin(String),
}

/// The built-in arguments that the stand-in has.
const BUILTINS: [&str; 9] = [
    "thread_index_in_threadgroup",
    "thread_position_in_threadgroup",
    "threadgroup_position_in_grid",
    "thread_position_in_grid",
    "threadgroups_per_grid",
    "threads_per_threadgroup",
    "simdgroups_per_threadgroup",
    "simdgroup_index_in_threadgroup",
    "thread_index_in_simdgroup",
];
const WIDTH: &str = "threads_per_simdgroup";

/// The kernels of a text.
///
/// # Errors
/// An argument that the stand-in does not understand.
pub fn entries(text: &str) -> Result<Vec<Entry>, String> {
    const START: &str = "kernel void ";
    let mut entries = Vec::new();
    for (at, _) in text.match_indices(START) {
        let rest = &text[at + START.len()..];
        let (name, rest) = rest.split_once('(').ok_or("a kernel without arguments")?;
        let line = text[..at].rsplit('\n').next().unwrap_or_default();
        let most_threads = line
            .split_once("max_total_threads_per_threadgroup(")
            .and_then(|(_, rest)| rest.split(')').next())
            .and_then(|number| number.trim().parse().ok());
        let mut threadgroups = 0;
        let arguments = split(rest).into_iter().map(|text| argument(text, &mut threadgroups));
        let arguments =
            arguments.collect::<Result<_, String>>().map_err(|error| format!("{name}: {error}"))?;
        entries.push(Entry { name: name.trim().to_owned(), most_threads, arguments });
    }
    Ok(entries)
}

/// Cuts arguments at the commas between them; ends at the parenthesis that closes them.
fn split(text: &str) -> Vec<&str> {
    let (mut depth, mut start) = (0, 0);
    let mut parts = Vec::new();
    for (i, letter) in text.char_indices() {
        match letter {
            '(' | '[' | '<' => depth += 1,
            ')' if depth == 0 => {
                parts.push(text[start..i].trim());
                break;
            }
            ')' | ']' | '>' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(text[start..i].trim());
                start = i + 1;
            }
            _ => {}
        }
    }
    parts.retain(|part| !part.is_empty());
    parts
}

fn argument(text: &str, threadgroups: &mut u32) -> Result<Argument, String> {
    let (declaration, attribute) = match text.split_once("[[") {
        Some((declaration, rest)) => (declaration.trim(), rest.trim_end_matches(']').trim()),
        None => (text, ""),
    };
    let (ty, _name) = declaration
        .rsplit_once(|letter: char| letter.is_whitespace() || letter == '&' || letter == '*')
        .map(|(ty, name)| (&declaration[..declaration.len() - name.len()], (ty, name).1))
        .ok_or_else(|| format!("the argument {text:?}"))?;
    let ty = ty.trim();
    let pointer = ty.ends_with('*');
    let writes =
        !ty.split_whitespace().any(|word| word.trim_end_matches(['&', '*']) == "const" || word == "constant");
    let bare = ty.trim_end_matches(['&', '*']).trim();
    let bare = bare.split_whitespace().filter(|word| !matches!(*word, "device" | "constant" | "threadgroup"));
    let bare = bare.collect::<Vec<_>>().join(" ");
    let number = |name: &str| {
        attribute
            .strip_prefix(name)?
            .trim()
            .strip_prefix('(')?
            .trim_end_matches(')')
            .trim()
            .parse::<u32>()
            .ok()
    };
    let place = if let Some(index) = number("buffer") {
        Place::Buffer(index)
    } else if ty.starts_with("threadgroup ") {
        let index = number("threadgroup").unwrap_or(*threadgroups);
        *threadgroups = index + 1;
        Place::Threadgroup(index)
    } else if BUILTINS.contains(&attribute) || attribute == WIDTH {
        Place::Builtin(attribute.to_owned())
    } else {
        return Err(format!("the argument {text:?}"));
    };
    Ok(Argument { place, ty: bare, pointer, writes })
}

/// The text as it is compiled: its runtime arrays know their lengths if `checked`, and each kernel gets a function that
/// calls it with what is bound, and a table of its arguments.
pub fn with_calls(text: &str, entries: &[Entry], checked: bool) -> String {
    let mut arrays = Vec::new();
    let mut structs = Vec::new();
    let mut name = "";
    let mut whole = String::from("#line 1 \"kernel.metal\"\n");
    for line in text.lines() {
        let mut words = line.split_whitespace();
        if words.next() == Some("struct") {
            name = words.next().unwrap_or_default();
        }
        let array = line.trim().strip_prefix("typedef ").and_then(|rest| rest.strip_suffix("[1];"));
        if let Some((element, array)) = array.and_then(|array| array.rsplit_once(' ')).filter(|_| checked) {
            arrays.push(array);
            whole += &format!("typedef sim::Checked<{element}> {array};\n");
            continue;
        }
        if line.starts_with("    ")
            && arrays.iter().any(|array| line.trim().starts_with(&format!("{array} ")))
        {
            structs.push(name);
        }
        whole += line;
        whole.push('\n');
    }
    whole += "#line 1 \"calls\"\n#undef static_cast\n";
    whole += MODULE;
    for entry in entries {
        whole += &call(entry, &structs);
    }
    whole
}

/// Where the object begins and ends in memory; its first and last addresses are the linker's.
const MODULE: &str = "extern \"C\" __attribute__((visibility(\"hidden\"))) char __ehdr_start[], _end[];
extern \"C\" __attribute__((visibility(\"default\"))) char* const sim_module[] = {__ehdr_start, _end};
";

fn call(entry: &Entry, checked: &[&str]) -> String {
    let name = &entry.name;
    let value = |argument: &Argument| match &argument.place {
        Place::Builtin(builtin) => format!("sim::{builtin}()"),
        Place::Threadgroup(i) if argument.pointer => format!("sim::threadgroup_pointer({i})"),
        Place::Threadgroup(i) => format!("sim::threadgroup_memory({i})"),
        Place::Buffer(i) if argument.pointer => format!("sim::buffer_pointer({i})"),
        Place::Buffer(i) => {
            let known = argument.ty.split_whitespace().any(|word| checked.contains(&word));
            format!("sim::{}buffer({i})", if known { "checked_" } else { "" })
        }
    };
    let row = |argument: &Argument| {
        let (kind, index) = match argument.place {
            Place::Buffer(index) => (0, index),
            Place::Threadgroup(index) => (1, index),
            Place::Builtin(_) => return None,
        };
        let ty = &argument.ty;
        Some(format!("    {{{kind}, {index}, sizeof({ty}), alignof({ty})}},\n"))
    };
    let values: Vec<_> = entry.arguments.iter().map(value).collect();
    let rows: String = entry.arguments.iter().filter_map(row).collect();
    let export = "extern \"C\" __attribute__((visibility(\"default\")))";
    format!(
        "{export} extern const sim::Argument sim_arguments_{name}[] = {{\n{rows}    {{2, 0, 0, 0}},\n}};\n\
         {export} __attribute__((no_sanitize(\"thread\", \"coverage\"))) void sim_run_{name}() {{\n    {name}({});\n}}\n",
        values.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "
typedef float type_1[1];
struct F32s {
    type_1 v;
};
[[max_total_threads_per_threadgroup(64)]] kernel void main_(
  uint index [[thread_index_in_threadgroup]]
, metal::uint3 group [[threadgroup_position_in_grid]]
, constant Params& p [[buffer(30)]]
, device F32s const& x [[buffer(0)]]
, device F32s& y [[buffer(1)]]
, device const half* z [[buffer(2)]]
, threadgroup type_4& parts
, threadgroup float* more [[threadgroup(3)]]
) {
}
";

    #[test]
    fn kernels_and_their_arguments_are_found() {
        let entries = entries(TEXT).expect("is understood");
        let [entry] = &entries[..] else { panic!("{entries:?}") };
        assert_eq!((entry.name.as_str(), entry.most_threads), ("main_", Some(64)));
        let found: Vec<_> =
            entry.arguments.iter().map(|a| (&a.place, a.ty.as_str(), a.pointer, a.writes)).collect();
        let builtin = |name: &str| Place::Builtin(name.to_owned());
        assert_eq!(found[0], (&builtin("thread_index_in_threadgroup"), "uint", false, true));
        assert_eq!(found[2], (&Place::Buffer(30), "Params", false, false));
        assert_eq!(found[3], (&Place::Buffer(0), "F32s const", false, false));
        assert_eq!(found[4], (&Place::Buffer(1), "F32s", false, true));
        assert_eq!(found[5], (&Place::Buffer(2), "const half", true, false));
        assert_eq!(found[6], (&Place::Threadgroup(0), "type_4", false, true));
        assert_eq!(found[7], (&Place::Threadgroup(3), "float", true, true));
        let error =
            super::entries("kernel void f(texture2d<float> t [[texture(0)]]) {}").expect_err("unknown");
        assert!(error.starts_with("f: ") && error.contains("texture"), "{error}");
    }

    #[test]
    fn runtime_arrays_know_their_lengths_where_that_is_asked_for() {
        let entries = entries(TEXT).expect("is understood");
        let checked = with_calls(TEXT, &entries, true);
        assert!(checked.contains("typedef sim::Checked<float> type_1;"), "{checked}");
        assert!(
            checked.contains("sim::checked_buffer(0)") && checked.contains("sim::buffer(30)"),
            "{checked}"
        );
        let plain = with_calls(TEXT, &entries, false);
        assert!(plain.contains("typedef float type_1[1];") && plain.contains("sim::buffer(0)"), "{plain}");
    }
}
