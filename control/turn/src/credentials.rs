//! Who may use the relay: static users and TURN REST secrets, together.
//!
//! ```text
//! USERNAME or USERHASH -> candidates -> the key under which the message verifies
//!   "alice"               the static user's key, or a dummy
//!   "1893456000:bob"      the same, and one key for each REST secret, while not expired
//! ```
//!
//! A REST username is `expiry[:userid]` and its password base64(HMAC-SHA1(secret, username)), so
//! that a web application and its relays share a secret and nothing else. Several secrets are
//! valid at once, which lets them be exchanged.
//!
//! With an ACCESS-TOKEN (RFC 7635) the key is in the token, and USERNAME says under which secret.
//!
//! An unknown user is verified against a dummy key: it costs and is answered what a wrong
//! password is. Whether a name has the form of a REST name, and whether it has expired, is no
//! secret.

mod authenticate;
mod prepare;
mod rest;
mod third_party;
mod users;

pub use authenticate::{Account, Denial, select_algorithm};
pub use prepare::{PrepareError, prepare};
pub use rest::{RestName, rest_password};
pub use third_party::{AccessToken, TOKEN_KEYS_MAX, TOKEN_SKEW, ThirdParty};

use std::fmt;

use crate::attribute::PasswordAlgorithm;
use users::Users;

/// Most REST secrets that may be valid at once: each costs every REST login an HMAC and a key.
pub const SECRETS_MAX: usize = 8;

/// Why a credential was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// Not `NAME:PASSWORD`, or one of the two is empty.
    #[error("a user is written NAME:PASSWORD, neither of them empty")]
    Form,
    /// Not usable as username, realm or password.
    #[error("{what}: {why}")]
    Prepare {
        /// "username", "realm" or "password".
        what: &'static str,
        /// What is wrong with it.
        why: PrepareError,
    },
    /// Longer than the attribute may be.
    #[error("the {0} is longer than its attribute allows")]
    TooLong(&'static str),
    /// This user is there already.
    #[error("there are two users of the name {0:?}")]
    Duplicate(String),
    /// An empty REST secret would let everybody in.
    #[error("a REST secret is empty")]
    EmptySecret,
    /// More than [`SECRETS_MAX`] REST secrets, or [`TOKEN_KEYS_MAX`] token keys.
    #[error("more than {SECRETS_MAX} REST secrets, or {TOKEN_KEYS_MAX} token keys")]
    TooManySecrets,
    /// A token key that is neither of A128GCM nor of A256GCM.
    #[error("a token key has 16 or 32 bytes, not {0}")]
    TokenKey(usize),
}

/// The users of one realm. It belongs to the realm: keys and hashes are made with it.
pub struct Credentials {
    realm: Box<str>,
    users: Users,
    secrets: Vec<rest::Secret>,
    third_party: Option<ThirdParty>,
}

impl Credentials {
    /// No users yet. The realm is prepared (RFC 8265) and has at most 127 characters.
    ///
    /// # Errors
    /// [`CredentialError::Prepare`], [`CredentialError::TooLong`].
    pub fn new(realm: &str) -> Result<Credentials, CredentialError> {
        let realm =
            prepare(realm).map_err(|why| CredentialError::Prepare { what: "realm", why })?;
        if realm.chars().count() > 127 {
            return Err(CredentialError::TooLong("realm"));
        }
        let users = Users::new(&realm);
        Ok(Credentials { realm: realm.into(), users, secrets: Vec::new(), third_party: None })
    }

    /// The realm, prepared: the value of REALM.
    pub fn realm(&self) -> &str {
        &self.realm
    }

    /// Adds a static user by password.
    ///
    /// # Errors
    /// [`CredentialError`]; nothing has been added.
    pub fn add_user(&mut self, name: &str, password: &str) -> Result<(), CredentialError> {
        self.users.add_password(&self.realm, name, password)
    }

    /// Adds a static user written `NAME:PASSWORD`; the name ends at the first colon.
    ///
    /// # Errors
    /// [`CredentialError`]; it never repeats the password.
    pub fn add_user_line(&mut self, line: &str) -> Result<(), CredentialError> {
        let (name, password) = line.split_once(':').ok_or(CredentialError::Form)?;
        self.add_user(name, password)
    }

    /// Adds a static user by stored key: the HA1 of this realm, MD5(name ":" realm ":"
    /// password), and the same by SHA-256 if it is known.
    ///
    /// # Errors
    /// [`CredentialError`]; nothing has been added.
    pub fn add_user_key(
        &mut self,
        name: &str,
        md5: &[u8; 16],
        sha256: Option<&[u8; 32]>,
    ) -> Result<(), CredentialError> {
        self.users.add_keys(&self.realm, name, md5, sha256)
    }

    /// Adds a REST secret; all that were added are valid.
    ///
    /// # Errors
    /// [`CredentialError::EmptySecret`], [`CredentialError::TooManySecrets`].
    pub fn add_rest_secret(&mut self, secret: &[u8]) -> Result<(), CredentialError> {
        if secret.is_empty() {
            return Err(CredentialError::EmptySecret);
        }
        if self.secrets.len() == SECRETS_MAX {
            return Err(CredentialError::TooManySecrets);
        }
        self.secrets.push(rest::Secret::new(secret));
        Ok(())
    }

    /// Takes access tokens (RFC 7635), beside users and secrets.
    pub fn set_third_party(&mut self, third_party: ThirdParty) {
        self.third_party = Some(third_party);
    }

    /// Who else authorizes clients.
    pub fn third_party(&self) -> Option<&ThirdParty> {
        self.third_party.as_ref()
    }

    /// Whether there is nobody who could log in.
    pub fn is_empty(&self) -> bool {
        self.users.is_empty() && self.secrets.is_empty() && self.third_party.is_none()
    }

    /// The password algorithms that every user here can use, best first: a client takes the
    /// first that it supports, so one that a user stored as HA1 has no key for must not be
    /// offered.
    pub fn password_algorithms(&self) -> &'static [PasswordAlgorithm] {
        if self.users.all_have_sha256() {
            &[PasswordAlgorithm::Sha256, PasswordAlgorithm::Md5]
        } else {
            &[PasswordAlgorithm::Md5]
        }
    }

    /// Whether ACCESS-TOKEN is taken (RFC 7635).
    pub fn takes_tokens(&self) -> bool {
        self.third_party.is_some()
    }

    /// Whether username anonymity may be announced: a REST name or a token's key cannot be found by
    /// its hash, and a client that sees the announcement must not send anything else.
    pub fn allows_anonymity(&self) -> bool {
        self.secrets.is_empty() && self.third_party.is_none()
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("realm", &self.realm)
            .field("users", &self.users.len())
            .field("rest_secrets", &self.secrets.len())
            .field("third_party", &self.third_party)
            .finish()
    }
}
