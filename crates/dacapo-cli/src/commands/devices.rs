//! `dacapo devices`: what models can run on here.

use dacapo::{Device, DeviceInfo};
use serde::Serialize;

use crate::error::Result;
use crate::table::{Align, Table};
use crate::{output, units};

const EXAMPLES: &str = "\
Examples:
  dacapo devices
  dacapo devices --json | jq '.[].threads'";

/// List the devices that can run models here, with their limits
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Print a JSON array
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Entry {
    device: &'static str,
    index: usize,
    name: String,
    kind: &'static str,
    driver: Option<String>,
    threads: usize,
    memory_bytes: Option<u64>,
    features: Vec<&'static str>,
    limits: Option<Limits>,
}

/// What a GPU offers to kernels.
#[derive(Debug, Serialize)]
struct Limits {
    subgroup_size: u32,
    workgroup_size: u32,
    shared_memory_bytes: u32,
    binding_bytes: u64,
}

impl From<DeviceInfo> for Entry {
    fn from(info: DeviceInfo) -> Self {
        Entry {
            device: info.backend.name(),
            index: info.index,
            name: info.name,
            threads: info.threads,
            memory_bytes: info.memory_bytes,
            kind: info.kind.name(),
            driver: info.driver,
            limits: info.gpu.as_ref().map(|gpu| Limits {
                subgroup_size: gpu.subgroup_size,
                workgroup_size: gpu.workgroup_size,
                shared_memory_bytes: gpu.shared_memory,
                binding_bytes: gpu.binding_bytes,
            }),
            features: info.features,
        }
    }
}

/// Runs the verb.
///
/// # Errors
/// Those of standard output.
pub fn run(args: &Args) -> Result<()> {
    let entries = Device::enumerate().into_iter().map(Entry::from).collect::<Vec<_>>();
    if args.json {
        return output::print_json(&entries);
    }
    let mut table = Table::new(&[
        ("device", Align::Left),
        ("name", Align::Left),
        ("kind", Align::Left),
        ("threads", Align::Right),
        ("memory", Align::Right),
        ("features", Align::Left),
    ]);
    for entry in entries {
        table.row([
            if entry.limits.is_some() {
                format!("{}:{}", entry.device, entry.index)
            } else {
                entry.device.into()
            },
            entry.name,
            entry.kind.to_string(),
            if entry.limits.is_some() { "-".into() } else { entry.threads.to_string() },
            entry.memory_bytes.map_or_else(|| "unknown".into(), units::bytes),
            entry.features.join(" "),
        ]);
    }
    output::print(&table.to_string())
}
