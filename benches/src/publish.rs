//! The newest result into the documents: between two marks, everything is replaced.

use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::report;
use crate::suite::record::Results;

/// `<!-- MARK -->` and `<!-- /MARK -->`.
fn replaced(document: &str, mark: &str, text: &str) -> Option<String> {
    let (begin, end) = (format!("<!-- {mark} -->"), format!("<!-- /{mark} -->"));
    let start = document.find(&begin)? + begin.len();
    let stop = start + document[start..].find(&end)?;
    Some(format!("{}\n\n{}\n{}", &document[..start], text.trim_end(), &document[stop..]))
}

/// Writes the report of the results in `folder` into `document`, where it has the marks
/// `bench-report` (all of it), `bench-ratios` (a table) or `bench-headline` (what stands for the
/// whole). Results of an interrupted run say so.
///
/// # Errors
/// There are no results, or no marks.
pub(crate) fn publish(folder: &Path, document: &Path) -> Result<()> {
    let path = folder.join("results.json");
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let results = Results::parse(&text).with_context(|| path.display().to_string())?;
    let name = document.display().to_string();
    let before = std::fs::read_to_string(document).with_context(|| name.clone())?;
    let mut after = before.clone();
    let mut marks = 0;
    for (mark, text) in [
        ("bench-report", report::markdown(&results)),
        ("bench-ratios", report::headline(&results)),
        ("bench-headline", report::chosen(&results)),
    ] {
        if let Some(text) = replaced(&after, mark, &text) {
            after = text;
            marks += 1;
        }
    }
    ensure!(
        marks > 0,
        "{name} has none of <!-- bench-report -->, <!-- bench-ratios --> and <!-- bench-headline -->"
    );
    std::fs::write(document, after).with_context(|| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_between_the_marks_is_replaced_and_nothing_else() {
        // given
        let document = "a\n<!-- x -->\nold\n<!-- /x -->\nb\n<!-- y -->\n<!-- /y -->\n";
        // when
        let once = replaced(document, "x", "new\n").unwrap();
        // then
        assert_eq!(once, "a\n<!-- x -->\n\nnew\n<!-- /x -->\nb\n<!-- y -->\n<!-- /y -->\n");
        assert_eq!(replaced(&once, "x", "new\n").unwrap(), once, "twice is as once");
        assert!(replaced(document, "z", "new").is_none());
        assert!(replaced("<!-- /x --><!-- x -->", "x", "new").is_none());
    }
}
