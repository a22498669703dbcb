//! Answers: success, refusals of authenticated requests, and what strangers are told.
//!
//! What goes to an address that has proved nothing is short, and counted out (RULES: amplification):
//!
//! ```text
//!  Binding success   XOR-MAPPED-ADDRESS and no more       32 or 44 bytes for a request of 20
//!  401               code, REALM, NONCE, [algorithms]     at most 4 times its request
//!  438               the same                             no larger than its request
//!  400, 420          no reason phrase                     28 bytes and more
//! ```

use std::time::Duration;

use super::discovery::ASKING;
use super::redirect::write_alternates;
use super::{Ask, Sender, Server};
use crate::attribute::{AttributeType, Code};
use crate::limits::Exhausted;
use crate::message::{Builder, Class, Message, Method};
use crate::outbox::{Client, Now, Outbox};
use crate::stats::{Reason, Request};

/// A 401 is at most so many times as long as its request, as long as the realm has 12 bytes or
/// fewer; with a longer realm it is as short as it can be.
const CHALLENGE_FACTOR: usize = 4;

/// What a challenge may say beside what it must.
#[derive(Debug, Clone, Copy)]
struct Extras {
    algorithms: bool,
    /// THIRD-PARTY-AUTHORIZATION, which a client prefers to a password (RFC 7635 section 6.1).
    third_party: bool,
}

impl Extras {
    const ALL: Self = Self { algorithms: true, third_party: true };
    const THIRD_PARTY: Self = Self { algorithms: false, third_party: true };
    const ALGORITHMS: Self = Self { algorithms: true, third_party: false };
    const NONE: Self = Self { algorithms: false, third_party: false };
}

impl From<Exhausted> for Reason {
    fn from(exhausted: Exhausted) -> Self {
        match exhausted {
            Exhausted::Source => Reason::BudgetSource,
            Exhausted::Prefix => Reason::BudgetPrefix,
            Exhausted::Total => Reason::BudgetTotal,
        }
    }
}

impl Server {
    pub(super) fn binding(
        &mut self,
        now: Now,
        sender: Sender,
        message: &Message<'_>,
        outbox: &mut dyn Outbox,
    ) -> Result<(), Reason> {
        let unknown = self.unknown_attributes(&sender.client, message);
        if unknown.clone().next().is_some() {
            self.spend(now.monotonic, sender)?;
            let mut reply = Builder::reply(&mut self.out, message, Class::Error);
            reply.error_code_reason(Code::UNKNOWN_ATTRIBUTE, "");
            reply.unknown_attributes(unknown);
            if let Ok(bytes) = reply.finish() {
                outbox.to_client(&sender.client, sender.origin, bytes);
            }
            self.count_answered(Reason::UnknownAttribute, Code::UNKNOWN_ATTRIBUTE);
            return Ok(());
        }
        match self.place_of(&sender.client) {
            Some(place) => self.discover(now, sender, message, place, outbox),
            None => {
                self.answer_binding(sender, message, outbox);
                Ok(())
            }
        }
    }

    /// The client's address, and no more.
    pub(super) fn answer_binding(
        &mut self,
        sender: Sender,
        message: &Message<'_>,
        outbox: &mut dyn Outbox,
    ) {
        let mut reply = Builder::reply(&mut self.out, message, Class::Success);
        reply.xor_mapped_address(sender.client.remote);
        if let Ok(bytes) = reply.finish() {
            outbox.to_client(&sender.client, sender.origin, bytes);
        }
        self.stats.successes[Request::Binding as usize] += 1;
    }

    /// Refuses a request that is not authenticated, if there is budget for it.
    pub(super) fn refuse_stranger(
        &mut self,
        now: Now,
        sender: Sender,
        message: &Message<'_>,
        reason: Reason,
        outbox: &mut dyn Outbox,
    ) -> Result<(), Reason> {
        let code = reason.code().unwrap_or(Code::BAD_REQUEST);
        let asked = message.as_bytes().len();
        let is_challenge = code == Code::UNAUTHENTICATED || code == Code::STALE_NONCE;
        if is_challenge && sender.client.transport.proves_address() {
            self.challenge(now, sender, message, code, Extras::ALL);
        } else if code == Code::STALE_NONCE {
            // Larger than the request only for a nonce that was never ours.
            if self.challenge(now, sender, message, code, Extras::ALGORITHMS) > asked {
                return Err(Reason::AnswerTooLarge);
            }
        } else {
            self.spend(now.monotonic, sender)?;
            if code == Code::TRY_ALTERNATE {
                let alternates = self.choose_alternates(&sender.client);
                let mut reply = Builder::reply(&mut self.out, message, Class::Error);
                write_alternates(reply.error_code_reason(code, ""), &alternates, None);
            } else if code == Code::UNAUTHENTICATED {
                let fits = |len| len <= CHALLENGE_FACTOR * asked;
                let mut extras = [Extras::ALL, Extras::THIRD_PARTY, Extras::ALGORITHMS].into_iter();
                let full =
                    extras.find(|&extras| fits(self.challenge(now, sender, message, code, extras)));
                if full.is_none() {
                    self.challenge(now, sender, message, code, Extras::NONE);
                }
            } else {
                Builder::reply(&mut self.out, message, Class::Error).error_code_reason(code, "");
            }
        }
        outbox.to_client(&sender.client, sender.origin, &self.out);
        self.count_answered(reason, code);
        Ok(())
    }

    /// Builds a 401 or 438 and returns its length. Without the list of algorithms the nonce must not
    /// announce one (RFC 8489 section 9.2.1): a client that uses it all the same is told 438.
    fn challenge(
        &mut self,
        now: Now,
        sender: Sender,
        message: &Message<'_>,
        code: Code,
        extras: Extras,
    ) -> usize {
        let nonces = if extras.algorithms { &self.nonces } else { &self.plain_nonces };
        let nonce = nonces.issue(sender.client.remote, now.unix);
        let mut reply = Builder::reply(&mut self.out, message, Class::Error);
        reply.error_code_reason(code, "");
        reply.realm(self.credentials.realm()).nonce(nonce.as_bytes());
        if extras.algorithms {
            reply.password_algorithms(self.offered);
        }
        if let Some(third_party) = self.credentials.third_party().filter(|_| extras.third_party) {
            reply.third_party_authorization(third_party.server_name());
        }
        reply.len()
    }

    /// Refuses an authenticated request.
    pub(super) fn refuse(&mut self, ask: &Ask<'_>, reason: Reason, outbox: &mut dyn Outbox) {
        let code = reason.code().unwrap_or(Code::SERVER_ERROR);
        let unknown = self.unknown_attributes(&ask.sender.client, ask.message);
        let alternates = match code {
            Code::TRY_ALTERNATE => self.choose_alternates(&ask.sender.client),
            _ => Vec::new(),
        };
        let mut reply = Builder::reply(&mut self.out, ask.message, Class::Error);
        reply.error_code(code);
        if code == Code::UNKNOWN_ATTRIBUTE {
            reply.unknown_attributes(unknown);
        }
        write_alternates(&mut reply, &alternates, Some(ask));
        if let Some(software) = &self.software {
            reply.software(software);
        }
        reply.integrity(ask.signer.account.key(), ask.signer.hash);
        if let Ok(bytes) = reply.finish() {
            outbox.to_client(&ask.sender.client, ask.sender.origin, bytes);
        }
        self.count_answered(reason, code);
    }

    /// Answers an authenticated request with success; `fill` writes the method's attributes.
    pub(super) fn succeed(
        &mut self,
        ask: &Ask<'_>,
        kind: Request,
        fill: impl FnOnce(&mut Builder<'_>),
        outbox: &mut dyn Outbox,
    ) {
        let mut reply = Builder::reply(&mut self.out, ask.message, Class::Success);
        fill(&mut reply);
        if let Some(software) = &self.software {
            reply.software(software);
        }
        reply.integrity(ask.signer.account.key(), ask.signer.hash);
        if let Ok(bytes) = reply.finish() {
            outbox.to_client(&ask.sender.client, ask.sender.origin, bytes);
        }
        self.stats.successes[kind as usize] += 1;
    }

    /// The comprehension-required attributes that this server does not take.
    pub(super) fn unknown_attributes<'m>(
        &self,
        client: &Client,
        message: &Message<'m>,
    ) -> impl Iterator<Item = AttributeType> + Clone + use<'m> {
        let discovers = message.method() == Method::BINDING && self.may_discover(client);
        let tokens = self.credentials.takes_tokens();
        message.unknown_required_and(move |kind| {
            (!discovers && ASKING.contains(&kind))
                || (!tokens && kind == AttributeType::ACCESS_TOKEN)
        })
    }

    /// Counts an error answer to a stranger. Who has shown its address is none: there is no victim.
    fn spend(&mut self, now: Duration, sender: Sender) -> Result<(), Reason> {
        if sender.client.transport.proves_address() {
            return Ok(());
        }
        Ok(self.budgets.spend(sender.client.remote.ip(), now)?)
    }

    fn count_answered(&mut self, reason: Reason, code: Code) {
        self.count(reason);
        self.stats.count_error(code);
    }
}
