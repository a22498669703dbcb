//! One reading of `/metrics`: as much of Prometheus' text format as the admin server writes.
//!
//! ```text
//! turnwire_refused_packets_total{tier="socket",reason="no_route"} 3
//! '---------- name ------------' '--------- labels ------------'  value
//! ```

use std::collections::BTreeMap;
use std::fmt;

/// Series of one reading: a hundred times what a large host has.
const SERIES_MAX: usize = 200_000;

/// A name with labels.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Series {
    name: String,
    labels: BTreeMap<String, String>,
}

impl Series {
    /// The value of a label; empty where there is none, which is the same to Prometheus.
    pub fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }

    /// It has all of these labels.
    pub fn matches(&self, labels: &[(&str, &str)]) -> bool {
        labels.iter().all(|(name, value)| self.label(name) == *value)
    }
}

/// What there was at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Scrape {
    series: BTreeMap<Series, f64>,
}

/// What is wrong, and in which line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    line: usize,
    what: &'static str,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.what)
    }
}

impl Scrape {
    /// Reads a page.
    ///
    /// # Errors
    /// A line is no sample, or there are more than can be Turnwire's.
    pub fn parse(page: &str) -> Result<Scrape, Wrong> {
        let mut series = BTreeMap::new();
        for (index, line) in page.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong = |what| Wrong { line: index + 1, what };
            let (key, value) = sample(line).map_err(wrong)?;
            series.insert(key, value);
            if series.len() > SERIES_MAX {
                return Err(wrong("there are too many series"));
            }
        }
        Ok(Scrape { series })
    }

    /// All series of this name that have these labels, in the order of their labels.
    pub fn all<'s, 'q>(
        &'s self,
        name: &'q str,
        labels: &'q [(&'q str, &'q str)],
    ) -> impl Iterator<Item = (&'s Series, f64)> + use<'s, 'q> {
        let first = Series { name: name.to_owned(), labels: BTreeMap::new() };
        let named = self.series.range(first..).take_while(move |(series, _)| series.name == name);
        let matching = named.filter(|(series, _)| series.matches(labels));
        matching.map(|(series, value)| (series, *value))
    }

    /// The value of exactly this series.
    pub fn value(&self, series: &Series) -> Option<f64> {
        self.series.get(series).copied()
    }

    /// The sum of all series of this name with these labels; `None` where there is none.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        self.all(name, labels).map(|(_, value)| value).reduce(|sum, value| sum + value)
    }

    /// The value of one label of the first series of this name; empty where there is none.
    pub fn label(&self, name: &str, label: &str) -> &str {
        let first = self.all(name, &[]).map(|(series, _)| series).next();
        first.map_or("", |series| series.label(label))
    }
}

fn sample(line: &str) -> Result<(Series, f64), &'static str> {
    let end = line.find(['{', ' ', '\t']).ok_or("a sample has a value")?;
    let (name, mut rest) = line.split_at(end);
    let good = |at: usize, byte: u8| {
        byte.is_ascii_alphabetic() || b"_:".contains(&byte) || at > 0 && byte.is_ascii_digit()
    };
    if name.is_empty() || !name.bytes().enumerate().all(|(at, byte)| good(at, byte)) {
        return Err("a sample begins with a metric's name");
    }
    let mut labels = BTreeMap::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = read_labels(inside, &mut labels)?;
    }
    // a timestamp may follow the value
    let value = rest.split_ascii_whitespace().next().ok_or("a sample has a value")?;
    let value = value.parse().map_err(|_| "a sample's value is a number")?;
    Ok((Series { name: name.to_owned(), labels }, value))
}

/// Reads labels up to the closing brace, and returns what follows it.
fn read_labels<'a>(
    mut rest: &'a str,
    labels: &mut BTreeMap<String, String>,
) -> Result<&'a str, &'static str> {
    loop {
        rest = rest.trim_start_matches([',', ' ']);
        if let Some(after) = rest.strip_prefix('}') {
            return Ok(after);
        }
        let (name, after) = rest.split_once("=\"").ok_or("a label is written NAME=\"VALUE\"")?;
        let (value, after) = unquote(after)?;
        labels.insert(name.trim().to_owned(), value);
        rest = after;
    }
}

/// A value up to its closing quotation mark, and what follows.
fn unquote(text: &str) -> Result<(String, &str), &'static str> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((value, &text[at + 1..])),
            '\\' => match chars.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, c @ ('\\' | '"'))) => value.push(c),
                _ => return Err("a backslash stands before n, \\ or \""),
            },
            c => value.push(c),
        }
    }
    Err("a label's value is not closed")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::prometheus::Page;

    #[test]
    fn what_the_admin_server_writes_is_read_back() {
        // given
        let mut page = Page::default();
        page.gauge("up_seconds", "Time\nhere.").value(1.5);
        let mut family = page.counter("things_total", "Things.");
        family.sample(&[("kind", "a\"b\\c\nd}, e=\"f"), ("way", "in")], 7);
        family.sample(&[("kind", "b"), ("way", "in")], u64::MAX);
        page.gauge("things_totally", "Others.").value(1);
        // when
        let scrape = Scrape::parse(&page.into_text()).expect("good");
        // then
        assert_eq!(scrape.sum("up_seconds", &[]), Some(1.5));
        assert_eq!(scrape.sum("things_total", &[("kind", "a\"b\\c\nd}, e=\"f")]), Some(7.0));
        assert_eq!(scrape.all("things_total", &[("way", "in")]).count(), 2);
        assert_eq!(scrape.sum("things_total", &[("way", "out")]), None);
        assert_eq!(scrape.label("things_total", "way"), "in");
        assert_eq!(scrape.label("nothing", "way"), "");
    }

    #[test]
    fn what_others_write_is_read_too_as_far_as_it_is_the_format() {
        let page = "\n# EOF\na_total{b=\"c\",} 1e3 1700000000000\nnone{} NaN\nall +Inf\r\n";
        let scrape = Scrape::parse(page).expect("good");
        assert_eq!(scrape.sum("a_total", &[("b", "c")]), Some(1000.0));
        assert_eq!(scrape.sum("all", &[]), Some(f64::INFINITY));
        assert!(scrape.sum("none", &[]).is_some_and(f64::is_nan));
    }

    #[test]
    fn what_is_no_sample_is_told_with_its_line() {
        for (line, what) in [
            ("<html>", "a sample has a value"),
            ("<html> 1", "a sample begins with a metric's name"),
            ("9a 1", "a sample begins with a metric's name"),
            ("a{b=\"c\"}", "a sample has a value"),
            ("a{b=c} 1", "a label is written NAME=\"VALUE\""),
            ("a{b=\"c} 1", "a label's value is not closed"),
            ("a{b=\"\\x\"} 1", "a backslash stands before n, \\ or \""),
            ("a one", "a sample's value is a number"),
        ] {
            let wrong = Scrape::parse(&format!("good 1\n{line}\n"));
            assert_eq!(wrong, Err(Wrong { line: 2, what }), "{line}");
        }
        let many: String = (0..=SERIES_MAX).map(|n| format!("a{n} 1\n")).collect();
        assert_eq!(Scrape::parse(&many).map_err(|wrong| wrong.line), Err(SERIES_MAX + 1));
    }
}
