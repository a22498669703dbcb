//! What a result says about the machine that it was measured on.

use std::collections::BTreeMap;
use std::fs;

use serde::{Deserialize, Serialize};

/// The generator's machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// Kernel release.
    pub kernel: String,
    /// Processor.
    pub cpu: String,
    /// Cores that this process may use.
    pub cores: usize,
    /// Load average of the last minute when it started: other work on the machine shows here.
    pub load_average: f64,
    /// Vulnerabilities of the processor, and how the kernel mitigates them.
    pub mitigations: BTreeMap<String, String>,
}

impl Machine {
    /// As /proc and /sys tell; what they do not tell is left empty.
    pub fn look() -> Machine {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let model = read("/proc/cpuinfo").lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            (key.trim() == "model name").then(|| value.trim().to_owned())
        });
        let load = read("/proc/loadavg");
        let folder = fs::read_dir("/sys/devices/system/cpu/vulnerabilities");
        let mitigations = folder.into_iter().flatten().flatten().filter_map(|entry| {
            let text = fs::read_to_string(entry.path()).ok()?.trim().to_owned();
            (text != "Not affected")
                .then(|| (entry.file_name().to_string_lossy().into_owned(), text))
        });
        Machine {
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            cpu: model.unwrap_or_default(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            load_average: load.split(' ').next().and_then(|l| l.parse().ok()).unwrap_or(0.0),
            mitigations: mitigations.collect(),
        }
    }
}
