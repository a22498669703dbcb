//! House rules that no lint checks: which way dependencies point, where `unsafe` may be, how long
//! a file may be, and that the documents name every folder.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Files that talk to the kernel, to packet memory or to memory that others write. Everything else
/// does without `unsafe`.
const UNSAFE: &[&str] = &[
    "benches/",
    "control/turnwire/src/sys.rs",
    "dataplane/src/kernel/attach.rs",
    "dataplane/src/kernel/clock.rs",
    "dataplane/src/kernel/maps.rs",
    "dataplane/src/kernel/tags.rs",
    "dataplane/src/kernel/testing.rs",
    "dataplane/src/link/socket/",
    "dataplane/src/link/xsk/mapping.rs",
    "dataplane/src/link/xsk/sys.rs",
    "dataplane/src/link/xsk/umem.rs",
    "dataplane/src/table/memory.rs",
    "dataplane/tests/",
    "ebpf/program/src/",
    "ebpf/wire/src/word.rs",
    "tests/",
];

/// What a crate of ours may use of ours, outside tests.
const ARROWS: &[(&str, &[&str])] = &[
    ("ebpf/wire", &[]),
    ("ebpf/program", &["wire"]),
    ("control/turn", &["wire"]),
    ("dataplane", &["wire"]),
    ("control/dial", &[]),
    ("control/probe", &["turn", "dial"]),
    ("control/turnwire", &["wire", "turn", "dataplane", "dial", "probe"]),
    ("tests/conformance", &["dial"]),
    ("benches/load", &["turn", "dial", "traffic"]),
    ("benches/traffic", &["dataplane"]),
];

const LINES_MAX: usize = 500;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").into()
}

/// Paths that git knows, or that it would add.
fn files() -> Vec<String> {
    let list = ["ls-files", "--cached", "--others", "--exclude-standard"];
    let output = Command::new("git").args(list).current_dir(root()).output().expect("git runs");
    assert!(output.status.success(), "git ls-files: {}", String::from_utf8_lossy(&output.stderr));
    let paths = String::from_utf8(output.stdout).expect("paths in UTF-8");
    let exists = |path: &&str| root().join(path).is_file();
    paths.lines().filter(exists).map(String::from).collect()
}

fn sources() -> BTreeMap<String, String> {
    let rust = files().into_iter().filter(|path| path.ends_with(".rs"));
    let read = |path: String| {
        let text = fs::read_to_string(root().join(&path)).expect("a source in UTF-8");
        (path, text)
    };
    let sources: BTreeMap<_, _> = rust.map(read).collect();
    assert!(sources.len() > 50, "found only {} sources", sources.len());
    sources
}

fn assert_none(what: &str, faults: Vec<String>) {
    assert!(faults.is_empty(), "{what}:\n  {}", faults.join("\n  "));
}

#[test]
fn no_file_is_longer_than_a_reader_can_hold() {
    let long = sources().into_iter().map(|(path, text)| (path, text.lines().count()));
    let long = long.filter(|(_, lines)| *lines > LINES_MAX);
    assert_none("split these", long.map(|(path, lines)| format!("{path}: {lines}")).collect());
}

#[test]
fn every_file_says_what_it_is() {
    let silent = sources().into_iter().filter(|(_, text)| !text.starts_with("//!"));
    assert_none("open these with //!", silent.map(|(path, _)| path).collect());
    let old = files().into_iter().filter(|path| path.ends_with("/mod.rs"));
    assert_none("foo.rs stands beside foo/", old.collect());
}

#[test]
fn unsafe_is_only_where_it_is_named() {
    let word = ["un", "safe"].concat();
    let blocks = [format!("{word} {{"), format!("{word} fn"), format!("{word} impl")];
    let has = |text: &str| blocks.iter().any(|block| text.contains(block));
    let allowed = |path: &str| UNSAFE.iter().any(|place| path.starts_with(place));
    let strays = sources().into_iter().filter(|(path, text)| has(text) && !allowed(path));
    assert_none("no place for unsafe code", strays.map(|(path, _)| path).collect());
}

/// Names of what a thread waits in, or takes turns by.
const LOCKS: &[&str] = &[
    "Mutex",
    "RwLock",
    "Condvar",
    "Barrier",
    "OnceLock",
    "LazyLock",
    "ReentrantLock",
    "mpsc",
    "crossbeam_channel",
    "parking_lot",
    "thread::park",
];

/// Where the data plane may: not on the way of a packet.
const LOCKS_ALLOWED: &[&str] = &[
    // a worker's queues on their way back to the control thread
    "dataplane/src/frames.rs",
    "dataplane/src/frames/keeper.rs",
    // what is opened and closed beside the control thread
    "dataplane/src/frames/errands.rs",
    // what a worker says of its start
    "dataplane/src/plane/start.rs",
    "dataplane/src/kernel/testing.rs",
];

#[test]
fn the_packet_path_names_no_lock() {
    let path = |path: &str| {
        let test = path.contains("/tests/") || path.ends_with("/tests.rs");
        let within = path.starts_with("dataplane/src/") || path.starts_with("ebpf/wire/src/");
        within && !test && !LOCKS_ALLOWED.contains(&path)
    };
    let found = sources().into_iter().filter(|(name, _)| path(name)).flat_map(|(name, text)| {
        let named = LOCKS.iter().filter(|lock| text.contains(**lock));
        named.map(|lock| format!("{name}: {lock}")).collect::<Vec<_>>()
    });
    assert_none("no lock on the way of a packet", found.collect());
}

#[test]
fn nothing_is_left_for_later() {
    let marks =
        ["TO", "FIX", "XX"].map(|half| [half, if half == "TO" { "DO" } else { "ME" }].concat());
    let marks = [&marks[0], &marks[1], "unimplemented!", "todo!("];
    let left = sources().into_iter().flat_map(|(path, text)| {
        let found = marks.iter().filter(|mark| text.contains(**mark));
        found.map(|mark| format!("{path}: {mark}")).collect::<Vec<_>>()
    });
    let itself = |fault: &String| !fault.starts_with("tests/tidy.rs");
    assert_none("finish or delete", left.filter(itself).collect());
}

#[test]
fn dependencies_point_one_way() {
    let ours = ["wire", "turn", "dataplane", "turnwire", "dial", "probe", "traffic"];
    let mut faults = Vec::new();
    for (folder, allowed) in ARROWS {
        let manifest = root().join(folder).join("Cargo.toml");
        let manifest = fs::read_to_string(manifest).expect("a manifest");
        let section = manifest.split("[dependencies]").nth(1).unwrap_or("");
        let section = section.split("\n[").next().unwrap_or("");
        let used = section.lines().filter_map(|line| line.split(['.', ' ', '=']).next());
        let wrong = used.filter(|name| ours.contains(name) && !allowed.contains(name));
        faults.extend(wrong.map(|name| format!("{folder} uses {name}")));
    }
    assert_none("against the arrows", faults);
}

#[test]
fn the_architecture_names_every_folder_and_the_readme_every_dependency() {
    let read = |path: &str| fs::read_to_string(root().join(path)).expect("a document");
    let (architecture, readme) = (read("ARCHITECTURE.md"), read("README.md"));
    let mut folders: Vec<String> = files()
        .iter()
        .filter_map(|path| path.split_once('/'))
        .flat_map(|(top, rest)| {
            let second = rest.split_once('/').map(|(second, _)| format!("{top}/{second}"));
            [Some(top.to_string()), second].into_iter().flatten()
        })
        .filter(|folder| !folder.starts_with('.') && !folder.ends_with("/src"))
        .filter(|folder| !folder.starts_with("benches/") && !folder.ends_with("/tests"))
        .collect();
    folders.sort();
    folders.dedup();
    folders.retain(|folder| {
        let name = folder.rsplit('/').next().expect("a name");
        !architecture.contains(&format!("{name}/"))
    });
    assert_none("not in ARCHITECTURE.md", folders);

    let manifest = read("Cargo.toml");
    let section = manifest.split("[workspace.dependencies]").nth(1).unwrap_or("");
    let section = section.split("\n[").next().unwrap_or("");
    let named = section.lines().filter(|line| !line.starts_with('#') && line.contains('='));
    let missing = named
        .filter(|line| !line.contains("path ="))
        .filter_map(|line| line.split([' ', '=']).next())
        .filter(|name| !readme.contains(&format!("`{name}`")));
    assert_none("no line in README.md for", missing.map(String::from).collect());
}

#[test]
fn the_documents_name_no_source_that_is_not_there() {
    let files = files();
    let is_there = |name: &str| files.iter().any(|file| Path::new(file).ends_with(name));
    let mut gone = Vec::new();
    for page in files.iter().filter(|file| file.ends_with(".md")) {
        let text = fs::read_to_string(root().join(page)).expect("a document");
        let names = text.split('`').skip(1).step_by(2).filter(|name| name.ends_with(".rs"));
        gone.extend(names.filter(|name| !is_there(name)).map(|name| format!("{page}: {name}")));
    }
    assert_none("named, but not there", gone);
}
