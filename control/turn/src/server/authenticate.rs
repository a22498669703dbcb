//! Who signed a request (RFC 8489 section 9.2.4), in the order of that section.

use super::Server;
use crate::credentials::{Account, Denial};
use crate::integrity::Hash;
use crate::message::Message;
use crate::nonce::NonceState;
use crate::outbox::{Client, Now};
use crate::stats::Reason;

/// Who a request is from, and how its response is signed.
pub(super) struct Signer {
    pub(super) account: Account,
    pub(super) hash: Hash,
}

impl From<Denial> for Reason {
    fn from(denial: Denial) -> Self {
        match denial {
            Denial::NoIntegrity => Reason::NoIntegrity,
            Denial::Missing(_) => Reason::MissingCredential,
            Denial::Malformed(_) => Reason::MalformedCredential,
            Denial::Algorithm => Reason::PasswordAlgorithm,
            Denial::OtherAccount => Reason::WrongUser,
            Denial::Unauthenticated => Reason::Unauthenticated,
        }
    }
}

impl Server {
    /// Integrity missing: 401. A part of the credential missing, or not what was offered: 400.
    /// Wrong user or integrity: 401. Then the nonce: 438.
    pub(super) fn authenticate(
        &self,
        now: Now,
        client: &Client,
        message: &Message<'_>,
    ) -> Result<Signer, Reason> {
        let (account, hash) = self.signer_of(now, client, message)?;
        let nonce = message.nonce().ok().flatten().unwrap_or_default();
        match self.nonces.check(nonce, client.remote, now.unix) {
            NonceState::Valid => Ok(Signer { account, hash }),
            NonceState::Stale | NonceState::Forged => Err(Reason::StaleNonce),
        }
    }

    fn signer_of(
        &self,
        now: Now,
        client: &Client,
        message: &Message<'_>,
    ) -> Result<(Account, Hash), Reason> {
        let by_client = || self.live(client, now.monotonic).map(|(_, allocation)| allocation);
        let by_connection = || self.allocation_to_bind(now.monotonic, message);
        let by_ticket = self.allocation_to_move(now.monotonic, message);
        if let Some(allocation) = by_ticket.or_else(by_client).or_else(by_connection) {
            // The allocation's own user is verified with its key: a REST username may expire while
            // the allocation lives, and so may a user be removed.
            match allocation.account.verify(message, self.offered) {
                Ok(hash) => return Ok((allocation.account.clone(), hash)),
                Err(Denial::OtherAccount) => {}
                Err(denial) => return Err(denial.into()),
            }
        }
        Ok(self.credentials.authenticate(message, self.offered, now.unix)?)
    }
}
