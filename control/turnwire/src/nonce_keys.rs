//! The keys of nonces, exchanged from time to time, the same on all servers of a fleet.
//!
//! ```text
//!   without a file   a new random key every period
//!   with one         HMAC-SHA256(secret, "turnwire nonce key 1" | period's number, 8 bytes)
//!                    period's number = seconds since 1970 / length of a period
//! ```
//!
//! Servers that share the secret reach the same key at the same time without talking to each other,
//! and a server that starts anew accepts the nonces of before. The key of the period before the
//! present one stays good, so nobody notices a change.

use std::path::Path;
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use turn::Random;

use crate::settings::secrets::{self, Secret};
use crate::settings::{Given, Problem};

/// Fewest characters of a secret: what can be guessed would let others make our nonces.
const SECRET_CHARS_MIN: usize = 32;

/// What a fleet's keys are made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NonceSecret(Secret);

impl NonceSecret {
    fn key(&self, period: u64) -> [u8; 32] {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.0.expose().as_bytes())
            .expect("HMAC takes keys of any length");
        mac.update(b"turnwire nonce key 1");
        mac.update(&period.to_be_bytes());
        mac.finalize().into_bytes().into()
    }
}

/// Reads the secret that `given` names: the first line of the file that is neither empty nor a
/// comment. A note if others can read it.
///
/// # Errors
/// The file cannot be read, or its secret is too short.
pub fn read(given: &Given<String>) -> Result<(NonceSecret, Option<String>), Problem> {
    let (entries, note) = secrets::read(given)?;
    let entry = &entries[0];
    if entry.value.chars().count() < SECRET_CHARS_MIN {
        let message = format!(
            "the secret has fewer than {SECRET_CHARS_MIN} characters; `openssl rand -base64 32 > \
             {}` makes a good one",
            Path::new(&given.value).display()
        );
        return Err(Problem::new(&entry.source, message));
    }
    Ok((NonceSecret(Secret::new(entry.value.clone())), note))
}

/// Which key is due.
#[derive(Debug)]
pub struct NonceKeys {
    secret: Option<NonceSecret>,
    length: Duration,
    /// The number of the period whose key is in use.
    period: u64,
}

impl NonceKeys {
    /// The keys of `secret`, or random ones, exchanged every `length` (at least a second).
    pub fn new(secret: Option<NonceSecret>, length: Duration, unix: Duration) -> NonceKeys {
        let mut keys = NonceKeys { secret, length: length.max(Duration::from_secs(1)), period: 0 };
        keys.period = keys.period_at(unix);
        keys
    }

    fn period_at(&self, unix: Duration) -> u64 {
        unix.as_secs() / self.length.as_secs()
    }

    fn key(&self, period: u64, random: &mut dyn Random) -> [u8; 32] {
        match &self.secret {
            Some(secret) => secret.key(period),
            None => {
                let mut key = [0; 32];
                random.fill(&mut key);
                key
            }
        }
    }

    /// The keys of the period before the present one, and of the present one.
    pub fn first(&self, random: &mut dyn Random) -> [[u8; 32]; 2] {
        [self.period.saturating_sub(1), self.period].map(|period| self.key(period, random))
    }

    /// The key to change to, when another period has begun. A clock that was set back changes
    /// nothing until it is past the present period again.
    pub fn due(&mut self, unix: Duration, random: &mut dyn Random) -> Option<[u8; 32]> {
        let period = self.period_at(unix);
        if period <= self.period {
            return None;
        }
        self.period = period;
        Some(self.key(period, random))
    }

    /// Takes another secret. Gives the keys to change to, in this order, if it is another one.
    pub fn replace(
        &mut self,
        secret: Option<NonceSecret>,
        unix: Duration,
        random: &mut dyn Random,
    ) -> Option<[u8; 32]> {
        if secret == self.secret {
            return None;
        }
        self.secret = secret;
        self.period = self.period_at(unix);
        Some(self.key(self.period, random))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::System;

    const DAY: Duration = Duration::from_secs(86_400);

    fn secret(text: &str) -> Option<NonceSecret> {
        Some(NonceSecret(Secret::new(text)))
    }

    #[test]
    fn servers_of_a_fleet_change_to_the_same_key_at_the_same_time() {
        // given one that runs for long and one that starts a day later
        let start = DAY * 20_000 + Duration::from_secs(7);
        let mut old = NonceKeys::new(secret("shared"), DAY, start);
        let [_, today] = old.first(&mut System);
        // when
        assert_eq!(old.due(start + DAY / 2, &mut System), None);
        let tomorrow = old.due(start + DAY, &mut System).expect("a new day");
        let young = NonceKeys::new(secret("shared"), DAY, start + DAY);
        // then
        assert_eq!(young.first(&mut System), [today, tomorrow]);
        assert_ne!(today, tomorrow);
        let other = NonceKeys::new(secret("another"), DAY, start + DAY);
        assert_ne!(other.first(&mut System)[1], tomorrow);
    }

    #[test]
    fn without_a_secret_every_key_is_new_and_a_clock_set_back_changes_nothing() {
        let mut keys = NonceKeys::new(None, DAY, DAY * 3);
        let [one, two] = keys.first(&mut System);
        assert_ne!(one, two);
        assert!(keys.due(DAY * 4, &mut System).is_some());
        assert_eq!(keys.due(DAY * 3, &mut System), None);
        assert_eq!(keys.due(DAY * 4 + DAY / 2, &mut System), None);
        assert!(keys.due(DAY * 5, &mut System).is_some());
    }

    #[test]
    fn another_secret_is_used_at_once_and_the_same_one_changes_nothing() {
        let mut keys = NonceKeys::new(secret("a"), DAY, DAY);
        assert_eq!(keys.replace(secret("a"), DAY, &mut System), None);
        let new = keys.replace(secret("b"), DAY, &mut System).expect("another key");
        assert_eq!(NonceKeys::new(secret("b"), DAY, DAY).first(&mut System)[1], new);
    }
}
