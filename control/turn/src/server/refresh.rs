//! Refresh (RFC 8656 section 8.2): a later expiry, or the end; with a ticket from another five-tuple
//! (RFC 8016).

use super::allocate::whole_secs;
use super::{Ask, Server};
use crate::allocation::Worth;
use crate::attribute::{Family, Fault};
use crate::message::Builder;
use crate::outbox::Outbox;
use crate::stats::{Reason, Request};

const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

impl Server {
    /// An allocation goes on under the newer access token (RFC 7635 section 9).
    fn take_account(&mut self, slot: u32, ask: &Ask<'_>) {
        let Some(allocation) = self.allocations.get_mut(slot) else { return };
        let account = &ask.signer.account;
        if account.token_expires().is_none() || account.user() == allocation.account.user() {
            return;
        }
        self.users.remove(allocation.account.user());
        self.users.add(account.user().into());
        allocation.account = account.clone();
    }

    pub(super) fn refresh(&mut self, ask: &Ask<'_>, outbox: &mut dyn Outbox) -> Result<(), Reason> {
        let (slot, moving) = match ask.message.mobility_ticket() {
            None => (self.owned(ask, outbox)?, None),
            Some(ticket) => {
                let (slot, ticket, worth) = self.check_ticket(ask, ticket, outbox)?;
                (slot, Some((ticket, worth)))
            }
        };
        let only = match ask.message.requested_address_family() {
            Ok(family) => family,
            Err(malformed) if matches!(malformed.fault, Fault::Family(_)) => {
                return Err(Reason::FamilyMismatch);
            }
            Err(malformed) => return Err(malformed.into()),
        };
        let asked_secs = ask.message.lifetime_secs()?;
        let allocation = self.allocations.get(slot).ok_or(Reason::NoAllocation)?;
        if only.is_some_and(|family| allocation.leg(family).is_none()) {
            return Err(Reason::FamilyMismatch);
        }
        self.take_account(slot, ask);
        let families = FAMILIES.into_iter().filter(|&family| only.is_none_or(|one| one == family));
        let mut secs = 0;
        if asked_secs == Some(0) {
            families.for_each(|family| self.close_leg(slot, family, ask.now, outbox));
        } else {
            let lifetime = self.lifetime(asked_secs, ask);
            secs = whole_secs(lifetime);
            for family in families {
                self.extend_leg(slot, family, ask.now + lifetime, ask.now, outbox);
            }
        }
        let ticket = match moving {
            Some(_) if self.allocations.get(slot).is_none() => None,
            Some((ticket, worth)) => {
                if worth == Worth::Moves {
                    self.begin_move(slot, ticket, ask, outbox);
                }
                self.ticket_of(slot)
            }
            None => None,
        };
        self.rearm(slot, ask.now);
        let fill = |reply: &mut Builder<'_>| {
            reply.lifetime_secs(secs);
            if let Some(ticket) = &ticket {
                reply.mobility_ticket(ticket);
            }
        };
        self.succeed(ask, Request::Refresh, fill, outbox);
        Ok(())
    }
}
