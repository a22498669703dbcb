//! Static users: their keys, made once, found by name or by USERHASH.

use std::collections::HashMap;

use super::{CredentialError, prepare};
use crate::attribute::{PasswordAlgorithm, USERNAME_WRITE_MAX};
use crate::integrity::{Key, userhash};

/// A user's keys, with the HMAC state that every message starts from.
struct Keys {
    md5: Key,
    sha256: Option<Key>,
}

impl Keys {
    fn warm(md5: Key, sha256: Option<Key>) -> Keys {
        md5.warm();
        sha256.iter().for_each(Key::warm);
        Keys { md5, sha256 }
    }
}

pub(super) struct Users {
    by_name: HashMap<Box<str>, Keys>,
    by_hash: HashMap<[u8; 32], Box<str>>,
    /// What an unknown user is verified against, whose result counts for nothing.
    dummy: Key,
    all_have_sha256: bool,
}

impl Users {
    pub(super) fn new(realm: &str) -> Users {
        let dummy = Key::long_term(PasswordAlgorithm::Sha256, "nobody", realm, "");
        dummy.warm();
        Users { by_name: HashMap::new(), by_hash: HashMap::new(), dummy, all_have_sha256: true }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.by_name.len()
    }

    pub(super) const fn all_have_sha256(&self) -> bool {
        self.all_have_sha256
    }

    pub(super) fn add_password(
        &mut self,
        realm: &str,
        name: &str,
        password: &str,
    ) -> Result<(), CredentialError> {
        if name.is_empty() || password.is_empty() {
            return Err(CredentialError::Form);
        }
        let name = self.new_name(name)?;
        let password =
            prepare(password).map_err(|why| CredentialError::Prepare { what: "password", why })?;
        let key = |algorithm| Key::long_term(algorithm, &name, realm, &password);
        let keys = Keys::warm(key(PasswordAlgorithm::Md5), Some(key(PasswordAlgorithm::Sha256)));
        self.insert(realm, name, keys);
        Ok(())
    }

    pub(super) fn add_keys(
        &mut self,
        realm: &str,
        name: &str,
        md5: &[u8; 16],
        sha256: Option<&[u8; 32]>,
    ) -> Result<(), CredentialError> {
        let name = self.new_name(name)?;
        let keys = Keys::warm(Key::raw(md5), sha256.map(|key| Key::raw(key)));
        self.all_have_sha256 &= sha256.is_some();
        self.insert(realm, name, keys);
        Ok(())
    }

    /// The prepared name of a user who is not there yet.
    fn new_name(&self, name: &str) -> Result<String, CredentialError> {
        let name =
            prepare(name).map_err(|why| CredentialError::Prepare { what: "username", why })?;
        if name.len() > USERNAME_WRITE_MAX {
            return Err(CredentialError::TooLong("username"));
        }
        if self.by_name.contains_key(name.as_str()) {
            return Err(CredentialError::Duplicate(name));
        }
        Ok(name)
    }

    fn insert(&mut self, realm: &str, name: String, keys: Keys) {
        self.by_hash.insert(userhash(&name, realm), name.as_str().into());
        self.by_name.insert(name.into(), keys);
    }

    /// The user with this USERHASH.
    pub(super) fn name_of(&self, userhash: &[u8; 32]) -> Option<&str> {
        self.by_hash.get(userhash).map(|name| &**name)
    }

    /// The key to verify a message of this user with, and whether it is the user's: an unknown
    /// user, or one without a key for the algorithm, gets the dummy.
    pub(super) fn key(&self, name: Option<&str>, algorithm: PasswordAlgorithm) -> (&Key, bool) {
        let keys = name.and_then(|name| self.by_name.get(name));
        let key = keys.and_then(|keys| match algorithm {
            PasswordAlgorithm::Md5 => Some(&keys.md5),
            PasswordAlgorithm::Sha256 => keys.sha256.as_ref(),
        });
        key.map_or((&self.dummy, false), |key| (key, true))
    }
}
