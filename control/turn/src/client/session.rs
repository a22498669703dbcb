//! What a client has learnt from the server's challenges (RFC 8489 section 9.2.5).

use super::{Failure, Settings};
use crate::attribute::PasswordAlgorithm;
use crate::integrity::{Hash, IntegrityError, Key, userhash};
use crate::message::{Builder, Message};
use crate::nonce::SecurityFeatures;

/// Which credentials mechanism a client knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Negotiation {
    /// RFC 5389: USERNAME, MD5 and SHA-1, whatever the server offers.
    Legacy,
    /// RFC 8489: the first algorithm offered that is supported, USERHASH if the server wants
    /// it; as RFC 5389 when nothing is offered.
    AsOffered,
}

#[derive(Default)]
pub(super) struct Session {
    challenge: Option<Challenge>,
}

/// The last challenge, and the key that follows from it.
struct Challenge {
    realm: String,
    nonce: Vec<u8>,
    key: Key,
    /// The chosen algorithm, and PASSWORD-ALGORITHMS as it came.
    algorithm: Option<(PasswordAlgorithm, Vec<u8>)>,
    userhash: Option<[u8; 32]>,
}

impl Challenge {
    const fn hash(&self) -> Hash {
        if self.algorithm.is_some() { Hash::Sha256 } else { Hash::Sha1 }
    }

    const fn key_algorithm(&self) -> PasswordAlgorithm {
        match self.algorithm {
            Some((algorithm, _)) => algorithm,
            None => PasswordAlgorithm::Md5,
        }
    }
}

impl Session {
    /// Whether requests can be signed.
    pub(super) const fn is_known(&self) -> bool {
        self.challenge.is_some()
    }

    pub(super) fn realm(&self) -> Option<&str> {
        self.challenge.as_ref().map(|challenge| challenge.realm.as_str())
    }

    pub(super) fn nonce(&self) -> Option<&[u8]> {
        self.challenge.as_ref().map(|challenge| challenge.nonce.as_slice())
    }

    /// Learns from a 401 or a 438.
    pub(super) fn challenge(
        &mut self,
        message: &Message<'_>,
        settings: &Settings,
    ) -> Result<(), Failure> {
        let nonce = message.nonce().map_err(Failure::Malformed)?;
        let nonce = nonce.ok_or(Failure::Response("a challenge without NONCE"))?;
        let realm = message.realm().map_err(Failure::Malformed)?;
        let realm = realm.or(self.realm());
        let realm = realm.ok_or(Failure::Response("a challenge without REALM"))?.to_owned();
        let features = match settings.negotiation {
            Negotiation::Legacy => SecurityFeatures::default(),
            Negotiation::AsOffered => SecurityFeatures::of_nonce(nonce).unwrap_or_default(),
        };
        let algorithm = match settings.negotiation {
            Negotiation::Legacy => None,
            Negotiation::AsOffered => choose(message, features)?,
        };
        let username = settings.username.as_str();
        let userhash = features.username_anonymity.then(|| userhash(username, &realm));
        let key_algorithm = algorithm.as_ref().map_or(PasswordAlgorithm::Md5, |chosen| chosen.0);
        let key = match self.challenge.take() {
            Some(old) if old.realm == realm && old.key_algorithm() == key_algorithm => old.key,
            _ => Key::long_term(key_algorithm, username, &realm, &settings.password),
        };
        self.challenge = Some(Challenge { realm, nonce: nonce.into(), key, algorithm, userhash });
        Ok(())
    }

    /// Adds the credentials and the integrity, if there has been a challenge.
    pub(super) fn sign(&self, builder: &mut Builder<'_>, settings: &Settings) {
        let Some(challenge) = &self.challenge else { return };
        match &challenge.userhash {
            Some(userhash) => builder.userhash(userhash),
            None => builder.username(&settings.username),
        };
        builder.realm(&challenge.realm).nonce(&challenge.nonce);
        if let Some((algorithm, offered)) = &challenge.algorithm {
            builder.password_algorithms_echo(offered).password_algorithm(*algorithm);
        }
        builder.integrity(&challenge.key, challenge.hash());
    }

    /// Verifies a response to a signed request. After PASSWORD-ALGORITHMS only SHA-256 will do.
    pub(super) fn verify(&self, message: &Message<'_>) -> Result<(), IntegrityError> {
        let challenge = self.challenge.as_ref().ok_or(IntegrityError::Missing)?;
        let hash = challenge.key.verify(message)?;
        if hash == challenge.hash() { Ok(()) } else { Err(IntegrityError::Mismatch) }
    }
}

/// The first algorithm offered that is supported, and the list as it came.
fn choose(
    message: &Message<'_>,
    features: SecurityFeatures,
) -> Result<Option<(PasswordAlgorithm, Vec<u8>)>, Failure> {
    match message.password_algorithms().map_err(Failure::Malformed)? {
        Some(offered) => {
            let chosen = offered.first_supported().ok_or(Failure::Algorithms)?;
            Ok(Some((chosen, offered.as_bytes().to_vec())))
        }
        None if features.password_algorithms => Err(Failure::Algorithms),
        None => Ok(None),
    }
}
