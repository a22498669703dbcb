//! TURN REST credentials (draft-uberti-behave-turn-rest): a username that says when it ends, and
//! the password that follows from it and a shared secret.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac as _};
use sha1::Sha1;

use crate::attribute::PasswordAlgorithm;
use crate::integrity::{Key, hmac};

/// A username of the form `expiry[:userid]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestName<'a> {
    /// When the name stops being valid, since the Unix epoch.
    pub expires: Duration,
    /// What follows the colon; empty if there is none.
    pub user: &'a str,
}

impl<'a> RestName<'a> {
    /// Reads the name; `None` unless it is decimal digits, alone or up to a colon.
    pub fn parse(username: &'a str) -> Option<RestName<'a>> {
        let (expiry, user) = username.split_once(':').unwrap_or((username, ""));
        if !expiry.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let expires = Duration::from_secs(expiry.parse().ok()?);
        Some(RestName { expires, user })
    }

    /// Whether the name's time has come; `unix` is the time since the epoch.
    pub fn is_expired(&self, unix: Duration) -> bool {
        self.expires <= unix
    }
}

/// A shared secret, as a prepared HMAC.
pub(super) struct Secret(Hmac<Sha1>);

impl Secret {
    pub(super) fn new(secret: &[u8]) -> Secret {
        Secret(hmac(secret))
    }

    /// base64(HMAC-SHA1(secret, username)): 28 characters.
    fn password(&self, username: &str) -> String {
        STANDARD.encode(self.0.clone().chain_update(username).finalize().into_bytes())
    }

    /// The key of this username.
    pub(super) fn key(&self, algorithm: PasswordAlgorithm, username: &str, realm: &str) -> Key {
        Key::long_term(algorithm, username, realm, &self.password(username))
    }
}

/// The password of a TURN REST username under this secret: base64(HMAC-SHA1(secret, username)).
pub fn rest_password(secret: &[u8], username: &str) -> String {
    Secret::new(secret).password(username)
}
