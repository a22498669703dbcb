//! The model's rules for allocations that move (RFC 8016), end with their connection, and connect to
//! peers by TCP (RFC 6062).

use super::*;

impl Model {
    fn by_id(&self, id: u64) -> Option<(&Allocation, Option<Client>)> {
        let is = |a: &Allocation| a.mobile.as_ref().is_some_and(|m| m.id == id);
        let here = self.allocations.iter().find(|(_, a)| is(a)).map(|(c, a)| (a, Some(*c)));
        here.or_else(|| self.absent.iter().find(|a| is(a)).map(|a| (a, None)))
    }

    pub(super) fn predict_move(&self, client: Client, user: &str, ticket: &[u8]) -> u16 {
        let Some(&(id, count)) = self.tickets.get(ticket) else { return 400 };
        let Some((allocation, at)) = self.by_id(id) else { return 437 };
        if allocation.user != user {
            return 441;
        }
        match self.worth(allocation, at, client, count) {
            None => 400,
            Some(true) if self.is_anothers(client, id) => 437,
            Some(_) => 0,
        }
    }

    fn is_anothers(&self, client: Client, id: u64) -> bool {
        let found = self.find(&client);
        found.is_some_and(|a| a.mobile.as_ref().is_none_or(|m| m.id != id))
    }

    /// Whether a ticket moves the allocation (true), or did so already.
    fn worth(
        &self,
        of: &Allocation,
        at: Option<Client>,
        client: Client,
        count: u32,
    ) -> Option<bool> {
        let mobile = of.mobile.as_ref()?;
        match mobile.spent {
            Some((spent, from, until, superseded)) if spent == count => {
                if from == client && self.now < until {
                    return Some(false);
                }
                (!superseded && at != Some(client)).then_some(true)
            }
            _ => {
                let here = at == Some(client) || mobile.next == Some(client);
                (count == mobile.count && !here).then_some(true)
            }
        }
    }

    pub(super) fn predict_bind(&self, user: &str, public: u32) -> u16 {
        let waits = |a: &&Allocation| {
            let mut connections = a.tcp.iter().flat_map(|tcp| tcp.values());
            connections.any(|c| c.public == public && c.until.is_some())
        };
        match self.everybody().find(waits) {
            None => 400,
            Some(allocation) if allocation.user != user => 441,
            Some(_) => 0,
        }
    }

    /// A client has shown that it is at this five-tuple: what was to go there goes there.
    pub(crate) fn arrive(&mut self, client: Client) {
        let next = |a: &Allocation| a.mobile.as_ref().is_some_and(|m| m.next == Some(client));
        let key = self.allocations.iter().find(|(_, a)| next(a)).map(|(key, _)| *key);
        let allocation = match key {
            Some(key) => self.allocations.remove(&key),
            None => self.absent.iter().position(next).map(|at| self.absent.remove(at)),
        };
        let Some(mut allocation) = allocation else { return };
        if self.no_ports && allocation.tcp.is_none() {
            match key {
                Some(key) => _ = self.allocations.insert(key, allocation),
                None => self.absent.push(allocation),
            }
            return;
        }
        let mobile = allocation.mobile.as_mut().expect("it has a ticket");
        mobile.next = None;
        if let Some(spent) = &mut mobile.spent {
            spent.3 = true;
        }
        // Its own relayed addresses are there all the while.
        let mut relays = self.relays();
        relays.extend(allocation.legs.values().map(|leg| leg.relay));
        let (now, no_routes) = (self.now, self.no_routes);
        for bound in allocation.legs.values_mut().flat_map(|leg| leg.channels.values_mut()) {
            let good = !bound.inner || relays.contains(&bound.peer);
            if now < bound.expires {
                bound.withdrawn = (bound.withdrawn && !good) || no_routes;
            }
        }
        self.allocations.insert(client, allocation);
    }

    /// A connection has ended.
    pub(crate) fn gone(&mut self, client: Client) {
        for allocation in self.allocations.values_mut().chain(&mut self.absent) {
            if let Some(tcp) = &mut allocation.tcp {
                tcp.retain(|_, connection| connection.data != Some(client));
            }
            if let Some(mobile) = allocation.mobile.as_mut().filter(|m| m.next == Some(client)) {
                mobile.next = None;
            }
        }
        let Some(mut allocation) = self.allocations.remove(&client) else { return };
        match allocation.mobile.as_ref().map(|mobile| mobile.next) {
            None => {
                let relays: Vec<_> = allocation.legs.values().map(|leg| leg.relay).collect();
                allocation.legs.clear();
                relays.into_iter().for_each(|relay| self.withdraw(relay));
            }
            Some(next) => {
                self.absent.push(allocation);
                next.into_iter().for_each(|next| self.arrive(next));
            }
        }
    }

    /// Carries out a Move that was answered with success.
    pub(crate) fn shift(&mut self, client: Client, ticket: &[u8], secs: u32, newer: Option<&[u8]>) {
        let (id, count) = self.tickets[ticket];
        let (allocation, at) = self.by_id(id).expect("predicted");
        let worth = self.worth(allocation, at, client, count).expect("predicted");
        let now = self.now;
        let is = |a: &Allocation| a.mobile.as_ref().is_some_and(|m| m.id == id);
        let mut all = self.allocations.values_mut().chain(&mut self.absent);
        let allocation = all.find(|a| is(a)).expect("predicted");
        for leg in allocation.legs.values_mut() {
            leg.expires = expiry(now, secs);
        }
        let mobile = allocation.mobile.as_mut().expect("predicted");
        if worth && secs > 0 {
            mobile.spent = Some((count, client, now + SECS(30), false));
            mobile.count += 1;
            mobile.next = Some(client);
        }
        let newest = mobile.count;
        self.advance(now);
        if let Some(newer) = newer {
            self.tickets.insert(newer.to_vec(), (id, newest));
        }
        if worth && at.is_none() {
            self.arrive(client);
        }
    }
}
