//! The TOML file: one flat table whose keys are the flags' names.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::de::{DeString, DeTable, DeValue};
use toml::{Spanned, de};

use super::{KEYS, Key, Problem, Problems, Settings, Shape, Source, find_key, nearest_key};

/// Files larger than this are not configurations.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Reads the file at `path`.
///
/// # Errors
/// Every unknown key and every value of a wrong type, each with its line; or why the file cannot
/// be read.
pub fn read(path: &Path) -> Result<Settings, Problems> {
    let unreadable = |error: io::Error| {
        let source = Source::WholeFile(Arc::new(path.to_owned()));
        let message = format!("the configuration file cannot be read: {error}");
        Problems(vec![Problem { source, message }])
    };
    let text = text(path, FILE_BYTES_MAX).map_err(unreadable)?;
    parse(path, &text)
}

/// What the file at `path` says. It may be a pipe or a device, so the limit is on what is read.
///
/// # Errors
/// It cannot be opened or read, holds more than `bytes_max` bytes, or is not UTF-8.
pub(super) fn text(path: &Path, bytes_max: u64) -> io::Result<String> {
    let mut bytes = Vec::new();
    let read = File::open(path)?.take(bytes_max + 1).read_to_end(&mut bytes)?;
    if read as u64 > bytes_max {
        return Err(io::Error::other(format!("it has more than {bytes_max} bytes")));
    }
    String::from_utf8(bytes).map_err(|_| io::Error::other("it is not text in UTF-8"))
}

/// Parses `text` as the contents of the file at `path`.
///
/// # Errors
/// As [`read`].
pub fn parse(path: &Path, text: &str) -> Result<Settings, Problems> {
    let mut reader = Reader {
        path: Arc::new(path.to_owned()),
        text,
        settings: Settings::default(),
        problems: Vec::new(),
    };
    match DeTable::parse(text) {
        Ok(table) => {
            for (name, value) in table.get_ref() {
                reader.entry(name, value);
            }
        }
        Err(error) => reader.syntax(&error),
    }
    reader.problems.sort_by_key(|problem| match &problem.source {
        Source::File(_, line, _) | Source::FileLine(_, line) => *line,
        _ => 0,
    });
    if reader.problems.is_empty() { Ok(reader.settings) } else { Err(Problems(reader.problems)) }
}

struct Reader<'t> {
    path: Arc<PathBuf>,
    text: &'t str,
    settings: Settings,
    problems: Vec<Problem>,
}

impl Reader<'_> {
    fn line(&self, offset: usize) -> usize {
        let before = self.text.as_bytes().iter().take(offset);
        1 + before.filter(|&&byte| byte == b'\n').count()
    }

    fn source(&self, name: &str, offset: usize) -> Source {
        Source::File(Arc::clone(&self.path), self.line(offset), name.to_owned())
    }

    fn syntax(&mut self, error: &de::Error) {
        let line = self.line(error.span().map_or(0, |span| span.start));
        let source = Source::FileLine(Arc::clone(&self.path), line);
        let message = format!("this is not TOML: {}", error.message().trim());
        self.problems.push(Problem { source, message });
    }

    fn entry(&mut self, name: &Spanned<DeString<'_>>, value: &Spanned<DeValue<'_>>) {
        let source = self.source(name.get_ref(), name.span().start);
        let Some(key) = find_key(name.get_ref()) else {
            self.problems.push(Problem { source, message: unknown(name.get_ref(), value) });
            return;
        };
        match (key.shape, value.get_ref()) {
            (Shape::List | Shape::Commas | Shape::Paths, DeValue::Array(items)) => {
                for item in items.iter() {
                    self.value(key, item);
                }
                if items.is_empty() {
                    let message =
                        format!("the list is empty; give {} or leave it out", key.example);
                    self.problems.push(Problem { source, message });
                }
            }
            _ => self.value(key, value),
        }
    }

    fn value(&mut self, key: &'static Key, value: &Spanned<DeValue<'_>>) {
        let source = self.source(key.name, value.span().start);
        let text = match (key.shape, value.get_ref()) {
            (shape, DeValue::String(text)) if shape != Shape::Switch => text.clone().into_owned(),
            (Shape::Number | Shape::Commas, DeValue::Integer(number)) => number.to_string(),
            (Shape::Switch, DeValue::Boolean(on)) => on.to_string(),
            (shape, other) => {
                let wanted = match shape {
                    Shape::Text | Shape::Path => "one text in quotes",
                    Shape::Switch => "true or false",
                    Shape::Number => "one whole number",
                    Shape::List | Shape::Commas | Shape::Paths => "a list of texts in quotes",
                };
                let found = kind(other);
                let message = format!("wants {wanted}, such as {}, not {found}", key.example);
                self.problems.push(Problem { source, message });
                return;
            }
        };
        let is_path = matches!(key.shape, Shape::Path | Shape::Paths);
        let text = if is_path { self.beside(&text) } else { text };
        self.settings.add(key, text, source);
    }

    /// A path written in the file, relative to the file's folder.
    fn beside(&self, path: &str) -> String {
        let folder = self.path.parent().unwrap_or(Path::new(""));
        folder.join(path).to_string_lossy().into_owned()
    }
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

fn unknown(name: &str, value: &Spanned<DeValue<'_>>) -> String {
    if let Some(nearest) = nearest_key(name) {
        return format!("there is no such key; did you mean {nearest}?");
    }
    if matches!(value.get_ref(), DeValue::Table(_)) {
        return "there are no sections; write the keys at the top of the file".to_owned();
    }
    let names: Vec<&str> = KEYS.iter().map(|key| key.name).collect();
    format!("there is no such key; the keys are {}", names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> String {
        match parse(Path::new("turnwire.toml"), text) {
            Ok(_) => String::new(),
            Err(problems) => problems.to_string(),
        }
    }

    #[test]
    fn each_mistake_names_file_line_key_and_what_would_be_right() {
        for (text, message) in [
            (
                "realm = \"a\"\n\nrelay-prots = \"1-2\"\n",
                "turnwire.toml:3: relay-prots: there is no such key; did you mean relay-ports?",
            ),
            (
                "max-channels = true\n",
                "turnwire.toml:1: max-channels: wants one whole number, such as 65536, \
                 not true or false",
            ),
            (
                "listen = [\n  \"0.0.0.0:3478\",\n  3478,\n]\n",
                "turnwire.toml:3: listen: wants a list of texts in quotes, such as \
                 \"0.0.0.0:3478\", not a whole number",
            ),
            (
                "realm = [\"a\"]\n",
                "turnwire.toml:1: realm: wants one text in quotes, such as \"example.org\", \
                 not a list",
            ),
            (
                "user = []\n",
                "turnwire.toml:1: user: the list is empty; give \"NAME:PASSWORD\" or leave it out",
            ),
            (
                "no-tcp = \"yes\"\n",
                "turnwire.toml:1: no-tcp: wants true or false, such as true, not a text",
            ),
            (
                "[interfaces]\nport = 1\n",
                "turnwire.toml:1: interfaces: there are no sections; write the keys at the top of the \
                 file",
            ),
        ] {
            assert_eq!(problems(text), message);
        }
    }

    #[test]
    fn a_file_that_is_none_is_told_by_its_name_and_never_read_without_end() {
        let told = |path: &str| {
            let problems = read(Path::new(path)).expect_err("no configuration");
            problems.to_string()
        };
        let cannot = "the configuration file cannot be read";
        assert!(told("/nonexistent").starts_with(&format!("/nonexistent: {cannot}: No such file")));
        assert!(told("/proc").starts_with(&format!("/proc: {cannot}: Is a directory")));
        let endless = format!("/dev/zero: {cannot}: it has more than 1048576 bytes");
        assert_eq!(told("/dev/zero"), endless);
    }

    #[test]
    fn broken_toml_names_its_line() {
        let message = problems("realm = \"a\"\nuser = [\"a:b\"\nlisten = 1\n");
        assert!(message.starts_with("turnwire.toml:3: this is not TOML: "), "{message}");
        let message = problems("realm = \"a\"\nrealm = \"b\"\n");
        assert!(message.starts_with("turnwire.toml:2: this is not TOML: "), "{message}");
    }

    #[test]
    fn two_mistakes_are_both_told_in_the_files_order() {
        let message = problems("zebra = 1\nrealm = 7\nalpha = 2\n");
        let lines: Vec<&str> = message.lines().map(|line| &line[..16]).collect();
        assert_eq!(lines, ["turnwire.toml:1:", "turnwire.toml:2:", "turnwire.toml:3:"]);
    }

    #[test]
    fn lists_may_be_one_text_and_numbers_may_be_quoted() {
        // given
        let text = "listen = \"0.0.0.0:1\"\ncores = [0, \"2-3\"]\nmax-channels = \"9\"\n";
        // when
        let settings = parse(Path::new("turnwire.toml"), text).expect("a good file");
        // then
        let values = |key: &str| -> Vec<String> {
            settings.all(key).iter().map(|given| given.value.clone()).collect()
        };
        assert_eq!(values("listen"), ["0.0.0.0:1"]);
        assert_eq!(values("cores"), ["0", "2-3"]);
        assert_eq!(values("max-channels"), ["9"]);
    }

    #[test]
    fn a_secret_files_path_is_relative_to_the_configuration() {
        let text = "user-file = [\"users\", \"/run/users\"]\n";
        let settings = parse(Path::new("/etc/turnwire/turnwire.toml"), text).expect("a good file");
        let paths: Vec<&str> =
            settings.all("user-file").iter().map(|given| given.value.as_str()).collect();
        assert_eq!(paths, ["/etc/turnwire/users", "/run/users"]);
    }
}
