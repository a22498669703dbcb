//! The instruction counts against the committed baseline. Looks at no clock.

use std::path::Path;
use std::process::Command;

#[test]
fn nothing_takes_over_5_percent_more_instructions_than_its_baseline() {
    if Command::new("valgrind").arg("--version").output().is_err() {
        assert!(std::env::var_os("CI").is_none(), "valgrind is missing: scripts/setup test");
        println!("skipped: valgrind is missing; scripts/setup test installs it");
        return;
    }
    // what this test was built of is built already, in the folder beside it
    let test = std::env::current_exe().expect("this test is a file");
    let target = test.ancestors().nth(3).expect("TARGET/debug/deps/this");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let output = Command::new(root.join("scripts/count"))
        .arg("compare")
        .env("CARGO_TARGET_DIR", target)
        .output()
        .expect("scripts/count runs");
    let (said, complained) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{said}");
    assert!(output.status.success(), "{said}{complained}");
}
