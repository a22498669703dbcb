//! The text format of Prometheus: families of samples, each with HELP and TYPE.
//!
//! ```text
//! # HELP turnwire_refused_packets_total Datagrams not forwarded.
//! # TYPE turnwire_refused_packets_total counter
//! turnwire_refused_packets_total{tier="socket",reason="no_route"} 3
//! ```

use std::fmt::{Display, Write};

/// A page of metrics.
#[derive(Debug, Default)]
pub struct Page {
    text: String,
}

impl Page {
    /// Starts a counter, whose name ends in `_total`.
    pub fn counter(&mut self, name: &'static str, help: &str) -> Family<'_> {
        self.family(name, "counter", help)
    }

    /// Starts a gauge.
    pub fn gauge(&mut self, name: &'static str, help: &str) -> Family<'_> {
        self.family(name, "gauge", help)
    }

    fn family(&mut self, name: &'static str, kind: &str, help: &str) -> Family<'_> {
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        self.line(format_args!("# HELP {name} {help}"));
        self.line(format_args!("# TYPE {name} {kind}"));
        Family { page: self, name }
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, "{line}");
    }

    /// The page.
    pub fn into_text(self) -> String {
        self.text
    }
}

/// One metric, to which samples are added.
pub struct Family<'p> {
    page: &'p mut Page,
    name: &'static str,
}

impl Family<'_> {
    /// A sample without labels.
    pub fn value(self, value: impl Display) {
        self.page.line(format_args!("{} {value}", self.name));
    }

    /// A sample with labels.
    pub fn sample(&mut self, labels: &[(&str, &str)], value: impl Display) {
        let mut text = String::new();
        for (name, value) in labels {
            let separator = if text.is_empty() { "" } else { "," };
            let _ = write!(text, "{separator}{name}=\"{}\"", escape(value));
        }
        self.page.line(format_args!("{}{{{text}}} {value}", self.name));
    }
}

fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_help_type_and_samples_with_escaped_labels() {
        // given
        let mut page = Page::default();
        // when
        page.gauge("up_seconds", "Time since\nthe start.").value(1.5);
        let mut family = page.counter("things_total", "Things.");
        family.sample(&[("kind", "a\"b\\c\nd"), ("way", "in")], 7);
        // then
        assert_eq!(
            page.into_text(),
            "# HELP up_seconds Time since\\nthe start.\n\
             # TYPE up_seconds gauge\n\
             up_seconds 1.5\n\
             # HELP things_total Things.\n\
             # TYPE things_total counter\n\
             things_total{kind=\"a\\\"b\\\\c\\nd\",way=\"in\"} 7\n"
        );
    }
}
