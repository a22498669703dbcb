//! Third-party authorization (RFC 7635): the keys shared with authorization servers.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use turn::credentials::ThirdParty;

use super::Reader;
use crate::settings::{Given, Problem, Source};

/// Keys are good until they are taken out of the configuration.
const ALWAYS: std::ops::Range<Duration> = Duration::ZERO..Duration::MAX;

impl Reader<'_> {
    /// This server's name with the keys, when any are given. No message repeats a key.
    pub(super) fn third_party(&mut self) -> Option<ThirdParty> {
        let keys = self.secret_values("oauth-key", "oauth-key-file");
        let name = self.settings.one("oauth-server-name").cloned();
        let name = match (name, keys.first()) {
            (None, None) => return None,
            (Some(name), None) => {
                self.tell(&name.source, "tokens need a key that opens them: add --oauth-key-file");
                return None;
            }
            (None, Some(key)) => {
                let message = "tokens are sealed for a server by name: add --oauth-server-name";
                self.tell(&key.source, message);
                return None;
            }
            (Some(name), Some(_)) => name,
        };
        let mut third_party = match ThirdParty::new(&name.value) {
            Ok(third_party) => third_party,
            Err(wrong) => {
                self.tell(&name.source, &wrong.to_string());
                return None;
            }
        };
        for given in &keys {
            if let Err(wrong) = add(&mut third_party, given) {
                self.tell(&given.source, &wrong);
            }
        }
        Some(third_party)
    }

    fn tell(&mut self, source: &Source, message: &str) {
        self.problems.push(Problem::new(source, message));
    }
}

fn add(third_party: &mut ThirdParty, given: &Given<String>) -> Result<(), String> {
    let wrong = "a key is written KID:BASE64, of 16 or 32 bytes";
    let (kid, key) = given.value.split_once(':').ok_or(wrong)?;
    let key = STANDARD.decode(key.trim()).map_err(|_| wrong)?;
    third_party.add_key(kid, &key, ALWAYS).map_err(|wrong| wrong.to_string())
}
