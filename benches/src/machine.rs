//! What a figure is worth nothing without: the machine, and the command that took it.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use crate::suite::record::Machine;

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

/// Kernel, processor, mitigations, and how the devices under test are set up.
pub(crate) fn look() -> Machine {
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo.lines().find(|line| line.starts_with("model name"));
    let model = model.and_then(|line| line.split_once(": ")).map_or("?", |(_, value)| value);
    let mut mitigations = BTreeMap::new();
    for entry in fs::read_dir("/sys/devices/system/cpu/vulnerabilities").into_iter().flatten() {
        let Ok(entry) = entry else { continue };
        let text = read(&entry.path().to_string_lossy());
        if text != "Not affected" {
            mitigations.insert(entry.file_name().to_string_lossy().into_owned(), text);
        }
    }
    Machine {
        kernel: read("/proc/sys/kernel/osrelease"),
        processor: model.to_owned(),
        cores: cpuinfo.lines().filter(|line| line.starts_with("processor")).count(),
        bpf_jit: read("/proc/sys/net/core/bpf_jit_enable"),
        mitigations,
        load_before: load(),
        load_after: String::new(),
        devices: "veth, tx checksumming off, GRO on, rings of 256, static neighbours".to_owned(),
        offloads: Vec::new(),
        placement:
            "generator and sink on core 0, the relay on core 1; sockets are fed by core 0's \
                    softirq, XDP by threaded NAPI"
                .to_owned(),
        commit: commit(),
    }
}

/// /proc/loadavg without its process numbers.
pub(crate) fn load() -> String {
    read("/proc/loadavg").split(' ').take(3).collect::<Vec<_>>().join(" ")
}

/// Now, UTC, as RFC 3339 has it.
pub(crate) fn now() -> String {
    output("date", &["-u", "+%Y-%m-%dT%H:%M:%SZ"])
}

/// The commit that is checked out, with "+" when files differ from it.
fn commit() -> String {
    let commit = output("git", &["rev-parse", "--short", "HEAD"]);
    let changed = output("git", &["status", "--porcelain", "--untracked-files=no"]);
    if changed.is_empty() { commit } else { commit + "+" }
}

/// What a program prints; nothing if it is not there or fails.
fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    text.unwrap_or_default()
}

/// How this was called.
pub(crate) fn command() -> String {
    shown(std::env::args().skip(2))
}

/// Without the paths that are the script's business.
fn shown(words: impl Iterator<Item = String>) -> String {
    let mut shown = vec!["scripts/bench".to_owned()];
    let mut words = words;
    while let Some(word) = words.next() {
        match word.as_str() {
            "--turnwire" | "--contenders" | "--rings" | "--out" => drop(words.next()),
            _ if word.contains(' ') => shown.push(format!("'{word}'")),
            _ => shown.push(word),
        }
    }
    shown.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_is_shown_as_one_would_type_it() {
        let words = ["--turnwire", "/x/turnwire", "--quick", "--subject", "mine=a b", "--out", "o"];
        let line = shown(words.into_iter().map(str::to_owned));
        assert_eq!(line, "scripts/bench --quick --subject 'mine=a b'");
    }
}
