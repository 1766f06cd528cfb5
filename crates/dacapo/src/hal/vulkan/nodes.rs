//! Whether the system has a GPU at all. Where it has none, drivers of software devices need not be loaded to find that out: with
//! the compilers in them they take more memory than a small model.

/// What the files begin with through which Linux lets a program use a GPU.
const NODES: [&str; 8] = ["dri", "nvidia", "nvhost", "nvgpu", "dxg", "mali", "kgsl", "pvr"];

/// Whether there may be a GPU: on Linux, whether one of its files is there.
pub(super) fn may_have_gpu() -> bool {
    if !cfg!(target_os = "linux") {
        return true;
    }
    // Who cannot list the files may still have one.
    let Ok(files) = std::fs::read_dir("/dev") else { return true };
    files.flatten().any(|file| is_gpu(&file.file_name().to_string_lossy()))
}

fn is_gpu(file: &str) -> bool {
    NODES.iter().any(|node| file.starts_with(node))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_gpus_are_known() {
        for file in ["dri", "nvidia0", "nvidiactl", "nvhost-gpu", "dxg", "mali0", "kgsl-3d0"] {
            assert!(is_gpu(file), "{file}");
        }
        for file in ["null", "nvram", "nvme0", "sda", "kvm", "tty0"] {
            assert!(!is_gpu(file), "{file}");
        }
    }
}
