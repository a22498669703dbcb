//! What a figure is worth nothing without: the machine, and the command that took it.

use std::fs;

use serde_json::{Value, json};

/// Kernel, processor, mitigations, and how the devices under test are set up.
pub(crate) fn facts() -> Value {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let cpuinfo = read("/proc/cpuinfo");
    let field = |name: &str| {
        let line = cpuinfo.lines().find(|line| line.starts_with(name));
        let value = line.and_then(|line| line.split_once(": "));
        value.map_or(String::new(), |(_, value)| value.to_owned())
    };
    let mut mitigations = serde_json::Map::new();
    for entry in fs::read_dir("/sys/devices/system/cpu/vulnerabilities").into_iter().flatten() {
        let Ok(entry) = entry else { continue };
        let text = read(&entry.path().to_string_lossy());
        if text != "Not affected" {
            mitigations.insert(entry.file_name().to_string_lossy().into(), text.into());
        }
    }
    json!({
        "kernel": read("/proc/sys/kernel/osrelease"),
        "processor": field("model name"),
        "cores": cpuinfo.lines().filter(|line| line.starts_with("processor")).count(),
        "bpf_jit": read("/proc/sys/net/core/bpf_jit_enable"),
        "mitigations": mitigations,
        "load_before": read("/proc/loadavg"),
        "devices": "veth, tx checksumming off, GRO on, rings of 256, static neighbours",
        "xdp_mode": "native",
        "placement": "generator on core 0; the relay on core 1, sockets and coturn fed by core 0's \
                      softirq, XDP with threaded NAPI (sink on core 0)",
    })
}

/// A line about them.
pub(crate) fn describe(facts: &Value) -> String {
    let text = |key: &str| facts[key].as_str().unwrap_or("?").to_owned();
    format!(
        "Linux {}, {}, {} cores, load before {}. {}; {}.",
        text("kernel"),
        text("processor"),
        facts["cores"],
        text("load_before"),
        text("devices"),
        text("placement")
    )
}

/// How this was called.
pub(crate) fn command() -> String {
    let words: Vec<String> = std::env::args().skip(1).collect();
    // the paths are the script's business
    let mut shown = vec!["scripts/bench".to_owned()];
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--turnwire" | "--out" => drop(words.next()),
            _ => shown.push(word),
        }
    }
    shown.join(" ")
}
