//! Secrets from places that no process list shows: the environment, and files of their own.
//!
//! `TURNWIRE_USER`, `TURNWIRE_AUTH_SECRET` and `TURNWIRE_OAUTH_KEY` stand for `--user`,
//! `--auth-secret` and `--oauth-key`, several separated by newlines. `--user-file` and the like name
//! files with one entry on each line, where empty lines and lines that start with `#` are skipped; their entries add to
//! those given otherwise.

use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use super::{Given, Problem, Settings, Source, file, find_key};

/// The environment variables, with the key that each stands for.
pub const VARIABLES: [(&str, &str); 3] = [
    ("TURNWIRE_USER", "user"),
    ("TURNWIRE_AUTH_SECRET", "auth-secret"),
    ("TURNWIRE_OAUTH_KEY", "oauth-key"),
];

/// Users of a large service fit many times.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// A text that never appears in a log, a message or a debug print.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Keeps `text` from being printed.
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    /// The text itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// The settings made in the environment, which `lookup` reads.
pub fn environment(lookup: &dyn Fn(&str) -> Option<String>) -> Settings {
    let mut settings = Settings::default();
    for (variable, key) in VARIABLES {
        let Some(value) = lookup(variable) else { continue };
        let Some(key) = find_key(key) else { continue };
        for line in value.lines().map(str::trim).filter(|line| !line.is_empty()) {
            settings.add(key, line.to_owned(), Source::Environment(variable));
        }
    }
    settings
}

/// The entries of the secret file that `given` names; a note if others can read it.
///
/// # Errors
/// The file cannot be read or has no entry.
pub fn read(given: &Given<String>) -> Result<(Vec<Given<String>>, Option<String>), Problem> {
    let path = Path::new(&given.value);
    let failed = |message: String| Problem::new(&given.source, message);
    let unreadable =
        |error: std::io::Error| failed(format!("{} cannot be read: {error}", path.display()));
    if given.value.is_empty() {
        return Err(failed("the name of the file is empty".to_owned()));
    }
    let text = file::text(path, FILE_BYTES_MAX).map_err(unreadable)?;
    let mode = std::fs::metadata(path).map_err(unreadable)?.permissions().mode();
    let shared = Arc::new(path.to_owned());
    let entries: Vec<Given<String>> = text
        .lines()
        .map(str::trim)
        .enumerate()
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
        .map(|(index, line)| Given {
            value: line.to_owned(),
            source: Source::SecretFile(Arc::clone(&shared), index + 1),
        })
        .collect();
    if entries.is_empty() {
        return Err(failed(format!("{} has no entry; write one on each line", path.display())));
    }
    let open = mode & 0o004 != 0;
    let note = open.then(|| {
        format!("everyone on this host can read {}: chmod 600 would close it", path.display())
    });
    Ok((entries, note))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_gives_several_secrets_on_several_lines() {
        // given
        let lookup = |name: &str| {
            (name == "TURNWIRE_AUTH_SECRET").then(|| "first, with a comma\n\nsecond\n".to_owned())
        };
        // when
        let settings = environment(&lookup);
        // then
        let values: Vec<&str> =
            settings.all("auth-secret").iter().map(|given| given.value.as_str()).collect();
        assert_eq!(values, ["first, with a comma", "second"]);
        assert!(settings.all("user").is_empty());
    }

    #[test]
    fn a_secret_is_never_printed() {
        assert_eq!(format!("{:?}", Secret::new("hunter2")), "(secret)");
    }

    #[test]
    fn a_file_gives_its_lines_and_says_where_each_stands() {
        // given
        let folder = std::env::temp_dir().join(format!("turnwire-secrets-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let path = folder.join("users");
        std::fs::write(&path, "# people\n\nalice:one\n  bob:two\n").expect("a file");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).expect("a mode");
        let name = path.to_string_lossy().into_owned();
        // when
        let (entries, note) =
            read(&Given { value: name.clone(), source: Source::Flag("user-file") })
                .expect("readable");
        // then
        let told: Vec<String> =
            entries.iter().map(|given| format!("{} {}", given.source, given.value)).collect();
        assert_eq!(told, [format!("{name}:3 alice:one"), format!("{name}:4 bob:two")]);
        assert!(note.is_some_and(|note| note.contains("chmod 600")));
        std::fs::remove_dir_all(&folder).expect("removed");
    }
}
