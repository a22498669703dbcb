//! Refresh (RFC 8656 section 8.2): a later expiry, or the end.

use super::allocate::whole_secs;
use super::{Ask, Server};
use crate::attribute::{Family, Fault};
use crate::outbox::Outbox;
use crate::stats::{Reason, Request};

const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

impl Server {
    pub(super) fn refresh(&mut self, ask: &Ask<'_>, outbox: &mut dyn Outbox) -> Result<(), Reason> {
        let slot = self.owned(ask, outbox)?;
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
        let families = FAMILIES.into_iter().filter(|&family| only.is_none_or(|one| one == family));
        let mut secs = 0;
        if asked_secs == Some(0) {
            families.for_each(|family| self.close_leg(slot, family, ask.now, outbox));
        } else {
            let lifetime = self.lifetime(asked_secs);
            secs = whole_secs(lifetime);
            for family in families {
                self.extend_leg(slot, family, ask.now + lifetime, outbox);
            }
        }
        self.rearm(slot, ask.now);
        self.succeed(ask, Request::Refresh, |reply| _ = reply.lifetime_secs(secs), outbox);
        Ok(())
    }
}
