//! New allocations sent to another server (RFC 8489 section 10, RFC 8656 section 7.2 step 11).
//!
//! ```text
//!  draining    Allocate, authenticated    300 and where to; without an alternate 508
//!  redirect    the first Allocate         300 at once, unsigned: this server needs no user
//! ```
//!
//! What is allocated here stays, and is refreshed here.

use super::{Ask, Server};
use crate::attribute::Family;
use crate::config::Alternate;
use crate::integrity::Hash;
use crate::message::Builder;
use crate::outbox::Client;
use crate::random::below;
use crate::stats::Reason;

impl Server {
    /// Makes no new allocations while this is set: they are sent to an alternate, or refused with
    /// 508. What there is goes on, and can be refreshed.
    pub fn set_draining(&mut self, draining: bool) {
        self.draining = draining;
    }

    /// Whether new allocations are turned away.
    pub fn is_draining(&self) -> bool {
        self.draining
    }

    /// Takes other alternates. `redirect`: send every new allocation to one of them, as
    /// [`Config::redirect`](crate::Config::redirect).
    pub fn replace_alternates(&mut self, alternates: Vec<Alternate>, redirect: bool) {
        (self.alternates, self.redirect) = (alternates, redirect);
    }

    /// Whether a new allocation may be made here.
    pub(super) fn check_open(&self, client: &Client) -> Result<(), Reason> {
        if (self.draining || self.redirect) && self.has_alternate(client) {
            return Err(Reason::Redirected);
        }
        if self.draining { Err(Reason::Draining) } else { Ok(()) }
    }

    /// Whether a first Allocate is sent on before anybody has authenticated.
    pub(super) fn redirects_strangers(&self, client: &Client) -> bool {
        self.redirect && self.has_alternate(client) && self.allocations.slot_of(client).is_none()
    }

    fn has_alternate(&self, client: &Client) -> bool {
        let family = Family::of(&client.remote.ip());
        self.alternates.iter().any(|alternate| Family::of(&alternate.address.ip()) == family)
    }

    /// One alternate of the client's family, and one of the other behind it, if there is one.
    pub(super) fn choose_alternates(&mut self, client: &Client) -> Vec<Alternate> {
        let own = Family::of(&client.remote.ip());
        let mut chosen = Vec::new();
        for is_own in [true, false] {
            let fits = |a: &&Alternate| (Family::of(&a.address.ip()) == own) == is_own;
            let count = self.alternates.iter().filter(fits).count();
            let at = below(&mut self.random, count as u32) as usize;
            chosen.extend(self.alternates.iter().filter(fits).nth(at).cloned());
        }
        chosen
    }
}

/// ALTERNATE-SERVER, and ALTERNATE-DOMAIN for a client that can use it: over TLS or DTLS, and
/// authenticated by SHA-256 (RFC 8489 section 10).
pub(super) fn write_alternates(
    reply: &mut Builder<'_>,
    alternates: &[Alternate],
    ask: Option<&Ask<'_>>,
) {
    for alternate in alternates {
        reply.alternate_server(alternate.address);
    }
    let takes_domain = ask.is_some_and(|ask| {
        ask.sender.client.transport.is_secure() && ask.signer.hash == Hash::Sha256
    });
    let domain = alternates.first().and_then(|alternate| alternate.domain.as_deref());
    if let Some(domain) = domain.filter(|_| takes_domain) {
        reply.alternate_domain(domain);
    }
}
