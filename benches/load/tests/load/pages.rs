//! Comparisons and pages.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::relay::Relay;
use super::tool::{command, scratch};

fn result(relay: &Relay, label: &str, rate: &str) -> PathBuf {
    let path = scratch("compared.json");
    let done = relay.call("run", &["--duration", "0.5", "--rate", rate, "--label", label, "-q"]);
    let json = serde_json::to_string(done.report()).expect("JSON");
    fs::write(&path, json).expect("a file");
    path
}

#[test]
fn results_are_compared_and_those_of_one_label_merged() {
    // given
    let relay = Relay::turnwire(&[]);
    let files = [("one", "1000"), ("<two> & more", "2000"), ("one", "1000")]
        .map(|(label, rate)| result(&relay, label, rate));
    let html = scratch("compared.html");
    // when
    let paths = files.each_ref().map(|path| path.to_str().expect("UTF-8"));
    let words = [&["compare"][..], &paths, &["--html", html.to_str().expect("UTF-8")]].concat();
    let output = command(&words).output().expect("a child");
    // then
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8_lossy(&output.stdout);
    let row = |name: &str| text.lines().find(|line| line.starts_with(name)).expect(name).to_owned();
    assert_eq!(row("results").split_whitespace().collect::<Vec<_>>(), ["results", "2", "1"]);
    assert!(row("to the first").contains("1.000"), "{text}");
    let page = fs::read_to_string(html).expect("a page");
    assert_eq!(page.matches("<svg").count(), 3);
    assert!(page.contains("&lt;two&gt; &amp; more") && !page.contains("<two>"));
    for outside in ["http://", "https://", "<script", "@import", "url("] {
        assert!(!page.contains(outside), "{outside}");
    }
}

#[test]
fn what_is_no_result_is_refused_by_name() {
    let path = scratch("foreign.json");
    for (text, words) in [
        ("{", "is not JSON"),
        ("{}", "is no result of turnwire-load"),
        (r#"{"schema":"turnwire-load/99"}"#, "turnwire-load/99"),
        (r#"{"schema":"turnwire-load/1"}"#, "is not as turnwire-load/1 says"),
    ] {
        fs::write(&path, text).expect("a file");
        let output =
            command(&["compare", path.to_str().expect("UTF-8")]).output().expect("a child");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1));
        assert!(stderr.contains(words) && stderr.contains("foreign.json"), "{stderr}");
    }
}

/// What chromium says of a page: its document after loading, its picture, and standard error, where
/// everything on the console stands. `None` where it is not installed.
fn open(page: &Path) -> Option<(String, Vec<u8>, String)> {
    let (profile, picture) = (scratch("profile"), scratch("page.png"));
    let browse = |what: &str| {
        let mut chromium = Command::new("chromium");
        chromium.args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-extensions"]);
        chromium.args(["--no-first-run", "--window-size=1000,1950", "--enable-logging=stderr"]);
        chromium.arg(format!("--user-data-dir={}", profile.display()));
        chromium.arg(what).arg(format!("file://{}", page.display()));
        chromium.output().ok()
    };
    let document = browse("--dump-dom")?;
    let shot = browse(&format!("--screenshot={}", picture.display()))?;
    let _ = fs::remove_dir_all(&profile);
    let errors = [document.stderr, shot.stderr].concat();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let picture = fs::read(picture).expect("a screenshot");
    Some((text(&document.stdout), picture, text(&errors)))
}

#[test]
fn a_browser_draws_the_page_and_has_nothing_to_say_about_it() {
    // given
    let relay = Relay::turnwire(&[]);
    let page = scratch("run.html");
    let path = page.to_str().expect("UTF-8");
    relay.call("run", &["--duration", "1", "--rate", "2000", "-q", "--html", path]).run();
    // when
    let Some((document, picture, errors)) = open(&page) else {
        return println!("skipped: needs chromium (apt-get install chromium)");
    };
    // then
    assert_eq!(document.matches("</svg>").count(), 3, "{document}");
    assert!(document.matches("<polyline").count() + document.matches("<path").count() >= 3);
    assert!(!errors.contains("CONSOLE"), "{errors}");
    // A page of 1,000 by 1,950 that is blank has some 10,000 bytes.
    assert!(picture.starts_with(b"\x89PNG") && picture.len() > 40_000, "{} bytes", picture.len());
    // A page with an error would have been noticed.
    let broken = scratch("broken.html");
    fs::write(&broken, "<script>console.error('aha')</script>").expect("a file");
    let (_, blank, errors) = open(&broken).expect("chromium");
    assert!(errors.contains("CONSOLE") && errors.contains("aha"), "{errors}");
    assert!(blank.len() < 40_000, "{} bytes", blank.len());
}
