//! The committed counts, and what is said when today's are others.
//!
//! A count belongs to the tools that made it: another compiler, C library or set of CPU features
//! makes other code of the same source. Where one of them differs from the baseline's, a difference
//! says less, so the limit is wider and the answer says why.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

/// More instructions than this, in percent, fail.
pub const LIMIT: f64 = 5.0;
/// The same when the counts come from other tools than the baseline's.
pub const LIMIT_OTHER_TOOLS: f64 = 25.0;
/// The command that writes a new baseline.
pub const RENEW: &str = "scripts/count renew";

/// Counts, and the tools that they belong to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Baseline {
    /// Name of a tool to its version.
    pub tools: BTreeMap<String, String>,
    /// Name of a case to its instructions each time, to two places.
    pub instructions: BTreeMap<String, f64>,
}

impl Baseline {
    /// Where it is committed.
    pub fn path() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("baseline.toml")
    }

    /// Reads the committed one.
    pub fn read() -> anyhow::Result<Self> {
        let path = Self::path();
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("{}: write it with: {RENEW}", path.display()))?;
        toml::from_str(&text).with_context(|| path.display().to_string())
    }

    /// Writes it.
    pub fn write(&self) -> anyhow::Result<()> {
        let head = format!(
            "# Instructions of each case, counted by callgrind. Renew with:\n# {RENEW}\n\n"
        );
        std::fs::write(Self::path(), head + &toml::to_string(self)?).context("writing the baseline")
    }

    /// Holds `now` against this baseline.
    pub fn compare(&self, now: &Baseline) -> Comparison {
        let names =
            self.tools.keys().chain(now.tools.keys()).collect::<std::collections::BTreeSet<_>>();
        let version = |tools: &BTreeMap<String, String>, name: &String| {
            tools.get(name).cloned().unwrap_or_else(|| "none".into())
        };
        let tools: Vec<String> = names
            .into_iter()
            .filter(|name| self.tools.get(*name) != now.tools.get(*name))
            .map(|name| {
                let (then, now) = (version(&self.tools, name), version(&now.tools, name));
                format!("{name}: {then} then, {now} now")
            })
            .collect();
        let limit = if tools.is_empty() { LIMIT } else { LIMIT_OTHER_TOOLS };
        let mut rows: Vec<Row> = Vec::new();
        for (name, count) in &now.instructions {
            rows.push(Row {
                name: name.clone(),
                old: self.instructions.get(name).copied(),
                new: Some(*count),
            });
        }
        for (name, count) in &self.instructions {
            if !now.instructions.contains_key(name) {
                rows.push(Row { name: name.clone(), old: Some(*count), new: None });
            }
        }
        Comparison { tools, limit, rows }
    }
}

/// One case then and now; it may be new, or gone.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    name: String,
    old: Option<f64>,
    new: Option<f64>,
}

impl Row {
    fn percent(&self) -> Option<f64> {
        Some(100.0 * (self.new? - self.old?) / self.old?)
    }
}

/// Today's counts beside the baseline's.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    tools: Vec<String>,
    limit: f64,
    rows: Vec<Row>,
}

impl Comparison {
    /// Cases that take more than the limit allows, or of which one of the two knows nothing.
    fn faults(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|row| row.percent().is_none_or(|percent| percent > self.limit))
    }

    /// Whether nothing has become worse.
    pub fn is_good(&self) -> bool {
        self.faults().next().is_none()
    }

    /// A table, and what to do.
    pub fn report(&self) -> String {
        let mut text =
            format!("{:<38} {:>10} {:>10} {:>8}\n", "instructions", "baseline", "now", "change");
        let number =
            |count: Option<f64>| count.map_or("none".into(), |count| format!("{count:.2}"));
        for row in &self.rows {
            let percent = row.percent().map_or(String::new(), |percent| format!("{percent:+.1} %"));
            let (old, new) = (number(row.old), number(row.new));
            let _ = writeln!(text, "{:<38} {old:>10} {new:>10} {percent:>8}", row.name);
        }
        for tool in &self.tools {
            let _ = writeln!(text, "not the baseline's tools: {tool}");
        }
        if !self.tools.is_empty() {
            let _ = writeln!(
                text,
                "so a difference up to {LIMIT_OTHER_TOOLS} % passes (else {LIMIT} %); renew the \
                 baseline where these tools stay: {RENEW}"
            );
        }
        for row in self.faults() {
            let (old, new) = (number(row.old), number(row.new));
            let _ = match row.percent() {
                Some(percent) => writeln!(
                    text,
                    "FAILED: {}: {old} instructions in the baseline, {new} now: {percent:+.1} %, more \
                     than {} %. Make it cheaper; or, where it must cost that, renew the baseline: {RENEW}",
                    row.name, self.limit
                ),
                None => writeln!(
                    text,
                    "FAILED: {}: {old} in the baseline, {new} now. Renew the baseline: {RENEW}",
                    row.name
                ),
            };
        }
        if self.rows.iter().any(|row| row.percent().is_some_and(|percent| percent < -LIMIT)) {
            let _ = writeln!(text, "Something became cheaper. To hold it there: {RENEW}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn baseline(rustc: &str, counts: &[(&str, f64)]) -> Baseline {
        Baseline {
            tools: BTreeMap::from([("rustc".into(), rustc.into())]),
            instructions: counts.iter().map(|(name, count)| ((*name).into(), *count)).collect(),
        }
    }

    #[test]
    fn five_percent_more_fail_and_say_what_and_how_much() {
        let old = baseline("1", &[("decide", 100.0), ("binding", 200.0)]);
        let good = old.compare(&baseline("1", &[("decide", 104.9), ("binding", 20.0)]));
        assert!(good.is_good() && good.report().contains("became cheaper"));
        let bad = old.compare(&baseline("1", &[("decide", 105.1), ("binding", 200.0)]));
        assert!(!bad.is_good());
        for part in ["FAILED: decide: 100.00", "105.10 now", "+5.1 %", RENEW] {
            assert!(bad.report().contains(part), "{}", bad.report());
        }
    }

    #[test]
    fn with_another_compiler_the_limit_is_wider_and_is_named() {
        let old = baseline("1", &[("decide", 100.0)]);
        let other = old.compare(&baseline("2", &[("decide", 124.0)]));
        assert!(other.is_good() && other.report().contains("rustc: 1 then, 2 now"));
        assert!(!old.compare(&baseline("2", &[("decide", 126.0)])).is_good());
    }

    #[test]
    fn a_case_without_its_count_fails_on_either_side() {
        let (old, new) = (baseline("1", &[("a", 1.0)]), baseline("1", &[("b", 1.0)]));
        let comparison = old.compare(&new);
        assert!(!comparison.is_good());
        assert_eq!(comparison.report().matches("FAILED").count(), 2);
    }

    #[test]
    fn a_baseline_survives_its_file() {
        let old = baseline("1", &[("frame 4-4, to the peer", 123.45)]);
        assert_eq!(toml::from_str::<Baseline>(&toml::to_string(&old).unwrap()).unwrap(), old);
    }
}
