//! Comparisons and pages.

use std::fs;
use std::path::PathBuf;

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
