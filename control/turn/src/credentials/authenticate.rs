//! From a request's attributes to the account that signed it (RFC 8489 section 9.2.4).

use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::{Credentials, RestName, ThirdParty};
use crate::attribute::{AttributeType, Malformed, PasswordAlgorithm};
use crate::integrity::{Hash, IntegrityError, Key, userhash};
use crate::message::Message;

/// Why a request is not authentic. The nonce is not looked at here: see [`crate::nonce`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denial {
    /// No MESSAGE-INTEGRITY and no MESSAGE-INTEGRITY-SHA256: a 401 that challenges.
    #[error("no message integrity")]
    NoIntegrity,
    /// Integrity, but this attribute is missing: a 400.
    #[error("{0} is missing")]
    Missing(AttributeType),
    /// An attribute that breaks its format: a 400.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// PASSWORD-ALGORITHM and PASSWORD-ALGORITHMS are not what was offered: a 400.
    #[error("PASSWORD-ALGORITHM or PASSWORD-ALGORITHMS is not what was offered")]
    Algorithm,
    /// From [`Account::verify`] only: the request is in another account's name, or under another
    /// password algorithm. Nothing is verified yet: ask [`Credentials::authenticate`], and if
    /// that names another user, answer 441.
    #[error("in another account's name")]
    OtherAccount,
    /// Unknown user, expired name, wrong realm, wrong password, or a message that was changed,
    /// without saying which: a 401 that challenges.
    #[error("not authentic")]
    Unauthenticated,
}

impl From<IntegrityError> for Denial {
    fn from(error: IntegrityError) -> Denial {
        match error {
            IntegrityError::Missing => Denial::NoIntegrity,
            IntegrityError::Malformed(malformed) => Denial::Malformed(malformed),
            IntegrityError::Mismatch => Denial::Unauthenticated,
        }
    }
}

/// Somebody who has proved to know a password. Keep it with the allocation: later requests are
/// then verified with [`Account::verify`], without a look at the credentials. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Account {
    username: Arc<str>,
    realm: Arc<str>,
    key: Key,
    algorithm: PasswordAlgorithm,
    token: Option<Token>,
}

/// What sets the account of an access token apart.
#[derive(Clone, Debug)]
struct Token {
    /// Whom quotas count: the token's own key, as its name is shared.
    user: Arc<str>,
    /// Since the Unix epoch.
    expires: Duration,
}

impl Account {
    /// The whole username.
    pub fn username(&self) -> &str {
        &self.username
    }

    /// Whom quotas count: the user id of a REST name, which changes with every expiry, if it
    /// has one; else the username.
    pub fn user(&self) -> &str {
        if let Some(token) = &self.token {
            return &token.user;
        }
        match RestName::parse(&self.username) {
            Some(RestName { user, .. }) if !user.is_empty() => user,
            _ => &self.username,
        }
    }

    /// When the access token ends that this account rests on (RFC 7635), since the Unix epoch.
    pub fn token_expires(&self) -> Option<Duration> {
        self.token.as_ref().map(|token| token.expires)
    }

    /// The key that requests and responses are signed with.
    pub const fn key(&self) -> &Key {
        &self.key
    }

    /// Verifies a later request of the same account and says with which hash to sign the
    /// response. `offered` as in [`select_algorithm`].
    ///
    /// # Errors
    /// As [`Credentials::authenticate`]; [`Denial::OtherAccount`] when USERNAME, USERHASH or the
    /// password algorithm is another.
    pub fn verify(
        &self,
        message: &Message<'_>,
        offered: &[PasswordAlgorithm],
    ) -> Result<Hash, Denial> {
        if let Some(token) = &self.token {
            return self.verify_token(token, message);
        }
        let claim = Claim::of(message, offered)?;
        let same_user = match claim.user {
            User::Name(name) => name == &*self.username,
            User::Hash(hash) => *hash == userhash(&self.username, &self.realm),
        };
        if !same_user || claim.algorithm != self.algorithm {
            return Err(Denial::OtherAccount);
        }
        let verified = self.key.verify(message);
        if claim.realm != &*self.realm {
            return Err(Denial::Unauthenticated);
        }
        verified?;
        Ok(claim.reply)
    }

    /// The same for an account of an access token: no password algorithm has part in its key.
    fn verify_token(&self, token: &Token, message: &Message<'_>) -> Result<Hash, Denial> {
        let claim = Claim::of(message, &[])?;
        // A request with a token of its own may bring another key.
        let brings = message.access_token().is_some_and(|bytes| *user_of(bytes) != *token.user);
        if !matches!(claim.user, User::Name(name) if name == &*self.username) || brings {
            return Err(Denial::OtherAccount);
        }
        let verified = self.key.verify(message);
        if claim.realm != &*self.realm {
            return Err(Denial::Unauthenticated);
        }
        Ok(verified?)
    }
}

/// A name for a token that says nothing of its key.
fn user_of(token: &[u8]) -> String {
    let digest = Sha256::digest(token);
    let mut name = String::from("token:");
    name.extend(digest[..12].iter().map(|byte| format!("{byte:02x}")));
    name
}

/// Who a request says that it is from. No part of it is verified.
struct Claim<'a> {
    user: User<'a>,
    realm: &'a str,
    algorithm: PasswordAlgorithm,
    reply: Hash,
}

#[derive(Clone, Copy)]
enum User<'a> {
    Name(&'a str),
    Hash(&'a [u8; 32]),
}

impl<'a> Claim<'a> {
    /// The checks of RFC 8489 section 9.2.4 that need no key, in its order.
    fn of(message: &Message<'a>, offered: &[PasswordAlgorithm]) -> Result<Claim<'a>, Denial> {
        if !message.has_integrity() {
            return Err(Denial::NoIntegrity);
        }
        let user = match (message.username()?, message.userhash()?) {
            (Some(name), _) => User::Name(name),
            (None, Some(hash)) => User::Hash(hash),
            (None, None) => return Err(Denial::Missing(AttributeType::USERNAME)),
        };
        let realm = message.realm()?.ok_or(Denial::Missing(AttributeType::REALM))?;
        message.nonce()?.ok_or(Denial::Missing(AttributeType::NONCE))?;
        let (algorithm, reply) = select_algorithm(message, offered)?;
        Ok(Claim { user, realm, algorithm, reply })
    }
}

/// The password algorithm of a request and the hash that its response is signed with: without
/// PASSWORD-ALGORITHM and PASSWORD-ALGORITHMS, MD5 and SHA-1. `offered` is what the server's
/// PASSWORD-ALGORITHMS lists; empty if it sends none, and then both are ignored.
///
/// # Errors
/// [`Denial::Algorithm`] unless both are there, the list is byte for byte what was offered, and
/// the algorithm is one of it. [`Denial::Malformed`].
pub fn select_algorithm(
    message: &Message<'_>,
    offered: &[PasswordAlgorithm],
) -> Result<(PasswordAlgorithm, Hash), Denial> {
    let legacy = Ok((PasswordAlgorithm::Md5, Hash::Sha1));
    if offered.is_empty() {
        return legacy;
    }
    match (message.password_algorithm()?, message.password_algorithms()?) {
        (None, None) => legacy,
        (Some(Some(chosen)), Some(list))
            if list.is_echo_of(offered) && offered.contains(&chosen) =>
        {
            Ok((chosen, Hash::Sha256))
        }
        _ => Err(Denial::Algorithm),
    }
}

impl Credentials {
    /// Finds out who signed a request, and with which hash to sign the response. `offered` as
    /// in [`select_algorithm`]; `unix` is the time since the epoch.
    ///
    /// The realm must be this one. Nothing in the result or the work says whether a user exists.
    ///
    /// # Errors
    /// [`Denial`], in the order of RFC 8489 section 9.2.4.
    pub fn authenticate(
        &self,
        message: &Message<'_>,
        offered: &[PasswordAlgorithm],
        unix: Duration,
    ) -> Result<(Account, Hash), Denial> {
        if let (Some(third_party), Some(token)) = (&self.third_party, message.access_token()) {
            return self.authorize(third_party, message, token, unix);
        }
        let claim = Claim::of(message, offered)?;
        let name = match claim.user {
            User::Name(name) => Some(name),
            User::Hash(hash) => self.users.name_of(hash),
        };
        let (key, is_users) = self.users.key(name, claim.algorithm);
        let verified = key.verify(message);
        if let Err(IntegrityError::Malformed(malformed)) = verified {
            return Err(malformed.into());
        }
        let mut found = (is_users && verified.is_ok()).then(|| key.clone());
        if let User::Name(name) = claim.user {
            // All of them, in any case: the time must not say which one it was.
            for key in self.rest_keys(name, claim.algorithm, unix) {
                let verified = key.verify(message).is_ok();
                found = found.or_else(|| verified.then_some(key));
            }
        }
        match (found, name) {
            (Some(key), Some(name)) if claim.realm == &*self.realm => Ok((
                Account {
                    username: name.into(),
                    realm: (&*self.realm).into(),
                    key,
                    algorithm: claim.algorithm,
                    token: None,
                },
                claim.reply,
            )),
            _ => Err(Denial::Unauthenticated),
        }
    }

    /// The account of an access token (RFC 7635 section 7).
    fn authorize(
        &self,
        third_party: &ThirdParty,
        message: &Message<'_>,
        token: &[u8],
        unix: Duration,
    ) -> Result<(Account, Hash), Denial> {
        let claim = Claim::of(message, &[])?;
        let User::Name(kid) = claim.user else {
            return Err(Denial::Missing(AttributeType::USERNAME));
        };
        let opened = third_party.open(kid, token, unix).ok_or(Denial::Unauthenticated)?;
        let key = Key::raw(&opened.mac_key);
        let hash = key.verify(message)?;
        if claim.realm != &*self.realm {
            return Err(Denial::Unauthenticated);
        }
        let token = Token { user: user_of(token).into(), expires: opened.expires };
        let account = Account {
            username: kid.into(),
            realm: (&*self.realm).into(),
            key,
            algorithm: claim.algorithm,
            token: Some(token),
        };
        Ok((account, hash))
    }

    /// The keys of a REST name that has not expired, one for each secret.
    fn rest_keys(
        &self,
        name: &str,
        algorithm: PasswordAlgorithm,
        unix: Duration,
    ) -> impl Iterator<Item = Key> {
        let valid = RestName::parse(name).is_some_and(|name| !name.is_expired(unix));
        let secrets = if valid { self.secrets.as_slice() } else { &[] };
        secrets.iter().map(move |secret| secret.key(algorithm, name, &self.realm))
    }
}
