//! The suite end to end, in miniature: not a measurement, but that everything is there and adds up.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use turnwire_tests::namespace::is_root;

/// The two namespaces are the suite's own and have fixed names: one test at a time has them.
const NAMESPACES: [&str; 2] = ["turnwire-bench-far", "turnwire-bench-relay"];

fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    // nothing may be left of an earlier run
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).expect("a folder in target/tmp");
    folder
}

fn bench(folder: &Path, words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_turnwire-bench"));
    command.args(["run", "--turnwire", "/bin/false", "--contenders", "/nonexistent", "--out"]);
    command.arg(folder).args(words).output().expect("turnwire-bench starts")
}

fn array(value: &Value) -> &[Value] {
    value.as_array().expect("an array")
}

#[test]
fn a_run_leaves_three_files_whose_counts_add_up() {
    if !is_root() || NAMESPACES.iter().any(|name| Path::new("/run/netns").join(name).exists()) {
        eprintln!("skipped: needs root, and the benchmark's namespaces for itself");
        return;
    }
    // given a point of one's own, and a relay that is not there
    let folder = folder("suite");
    let words = ["--quick", "--channels", "7", "--rounds", "1", "--trial-ms", "20"];
    let chosen = ["--subjects", "bare,pion", "--subject", "mine=/nowhere/relay {listen4}"];
    // when
    let output = bench(&folder, &[&words[..], &chosen[..]].concat());
    // then
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).expect(name);
    let (json, page, table) = (read("results.json"), read("index.html"), read("table.md"));
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), table.trim());
    for text in [&page, &table] {
        for part in ["7 channels, 160 bytes", "bare XDP_TX", "pion is left out", "mine is left out"]
        {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
    assert!(page.contains("<svg") && page.ends_with("</html>\n"));

    let results: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(results["schema"], "turnwire-bench/1");
    assert_eq!(results["interrupted"], false);
    let entries = array(&results["scenarios"][0]["entries"]);
    let rounds = array(&entries[0]["rounds"]);
    assert_eq!(entries[0]["failure"], Value::Null, "{said}");
    assert_eq!(rounds.len(), 1, "the first round is dropped: {said}");
    assert!(rounds[0]["pdr"]["pps"].as_f64().is_some_and(|pps| pps > 1_000.0), "{rounds:?}");
    // each share of the PDR, but for those that a busy machine made void each time
    let voided = array(&rounds[0]["trials"]).iter().filter(|trial| !trial["void"].is_null());
    let latencies = array(&rounds[0]["latency"]).len();
    assert!(latencies <= 3 && latencies + voided.count() >= 3, "{rounds:?}");
    let mut counted = 0;
    for trial in array(&rounds[0]["trials"]) {
        let points = ["sent", "entered", "left", "received"].map(|name| trial[name].as_u64());
        let points = points.map(|point| point.expect("a count"));
        if trial["void"].is_null() {
            counted += 1;
            assert!(points.windows(2).all(|pair| pair[1] <= pair[0] + 100), "{trial}");
            assert!(points[3] > 0, "{trial}");
        }
    }
    assert!(counted > 5, "{rounds:?}");
    for name in NAMESPACES {
        assert!(!Path::new("/run/netns").join(name).exists(), "{name} is left");
    }
    published(&folder);
}

/// And the result can be put into a document.
fn published(folder: &Path) {
    let document = folder.join("README.md");
    let marks = ["bench-report", "bench-headline"];
    let marks = marks.map(|mark| format!("<!-- {mark} -->\n<!-- /{mark} -->\n")).concat();
    std::fs::write(&document, format!("before\n{marks}after\n")).expect("a document");
    // one that ended early can be published too, and says so
    let results = folder.join("results.json");
    let json = std::fs::read_to_string(&results).expect("results");
    let ended = json.replace("\"interrupted\":false", "\"interrupted\":true");
    std::fs::write(&results, ended).expect("results");
    let mut command = Command::new(env!("CARGO_BIN_EXE_turnwire-bench"));
    let output = command.arg("publish").arg(folder).arg(&document).output().expect("it starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = std::fs::read_to_string(&document).expect("a document");
    assert!(text.starts_with("before\n") && text.ends_with("after\n"), "{text}");
    assert!(text.contains("7 channels, 160 bytes"), "{text}");
    assert_eq!(text.matches("Interrupted: only what").count(), 2, "{text}");
}

#[test]
fn what_does_not_exist_is_refused_before_anything_is_made() {
    let folder = folder("refused");
    for (words, wanted) in [
        (["--only", "nosuch"], "nosuch"),
        (["--subjects", "nobody"], "nobody"),
        (["--payload", "19"], "20 to 1400"),
    ] {
        let output = bench(&folder, &words);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(wanted), "{said}");
        assert!(!folder.join("results.json").exists());
    }
}
