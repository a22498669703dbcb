//! Several runs side by side, as Markdown: by group, and every check that somebody fails.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

/// One run's JSON and the name of its column.
struct Run {
    name: String,
    checks: BTreeMap<String, Value>,
    order: Vec<String>,
}

/// A table of the runs that `NAME=FILE` arguments name.
///
/// # Errors
/// A file is not there, or is no report.
pub fn table(arguments: &[String]) -> Result<String> {
    let runs: Vec<Run> = arguments.iter().map(|argument| read(argument)).collect::<Result<_>>()?;
    let mut order: Vec<&str> = Vec::new();
    for id in runs.iter().flat_map(|run| &run.order) {
        if !order.contains(&id.as_str()) {
            order.push(id);
        }
    }
    let mut text = heading("checks passed, of those that could be judged", &runs);
    let mut groups: Vec<&str> = Vec::new();
    for id in &order {
        let group = group_of(id);
        if !groups.contains(&group) {
            groups.push(group);
        }
    }
    for group in &groups {
        row(&mut text, group, &runs, |run| counts(run, |id| group_of(id) == *group));
    }
    row(&mut text, "**all**", &runs, |run| counts(run, |_| true));
    text.push('\n');
    text += &heading("what somebody does otherwise", &runs);
    for id in order {
        let verdicts: Vec<&str> = runs.iter().map(|run| verdict(run, id)).collect();
        if verdicts.contains(&"fail") {
            let check = runs.iter().find_map(|run| run.checks.get(id));
            let name = check.and_then(|check| check["name"].as_str()).unwrap_or_default();
            let severity = check.and_then(|check| check["severity"].as_str()).unwrap_or_default();
            let severity = if severity == "turnwire" { "ours" } else { severity };
            let label = format!("`{id}` ({severity}): {}", name.trim_start_matches("... "));
            row(&mut text, &label, &runs, |run| verdict(run, id).replace("fail", "**fail**"));
        }
    }
    Ok(text)
}

fn read(argument: &str) -> Result<Run> {
    let Some((name, file)) = argument.split_once('=') else {
        bail!("{argument} is not NAME=FILE");
    };
    let text =
        std::fs::read_to_string(Path::new(file)).with_context(|| format!("reading {file}"))?;
    let json: Value = serde_json::from_str(&text).with_context(|| format!("{file} is not JSON"))?;
    let list = json["checks"].as_array().with_context(|| format!("{file} is no report"))?;
    let mut run = Run { name: name.into(), checks: BTreeMap::new(), order: Vec::new() };
    for check in list {
        let id = check["id"].as_str().unwrap_or_default().to_owned();
        run.order.push(id.clone());
        run.checks.insert(id, check.clone());
    }
    Ok(run)
}

fn heading(first: &str, runs: &[Run]) -> String {
    let mut text = String::new();
    row(&mut text, first, runs, |run| run.name.clone());
    let _ = writeln!(text, "|---|{}", "---|".repeat(runs.len()));
    text
}

fn row(text: &mut String, label: &str, runs: &[Run], cell: impl Fn(&Run) -> String) {
    let cells: Vec<String> = runs.iter().map(cell).collect();
    // Writing to a String cannot fail.
    let _ = writeln!(text, "| {label} | {} |", cells.join(" | "));
}

fn group_of(id: &str) -> &str {
    id.split('.').next().unwrap_or(id)
}

fn verdict<'a>(run: &'a Run, id: &str) -> &'a str {
    run.checks.get(id).and_then(|check| check["verdict"].as_str()).unwrap_or("")
}

fn counts(run: &Run, wanted: impl Fn(&str) -> bool) -> String {
    let verdicts = run.order.iter().filter(|id| wanted(id)).map(|id| verdict(run, id));
    let (mut pass, mut fail) = (0, 0);
    for verdict in verdicts {
        pass += usize::from(verdict == "pass");
        fail += usize::from(verdict == "fail");
    }
    if pass + fail == 0 { "-".into() } else { format!("{pass} / {}", pass + fail) }
}
