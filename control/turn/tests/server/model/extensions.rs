//! The model's steps that are not RFC 8656's: mobility, TCP connections, ICMP, crashes, clocks.

use super::reference::Connection;
use super::*;

impl Run {
    /// A step of the kinds that are not RFC 8656's.
    pub(super) fn extension(&mut self, kind: usize, user: User) {
        match kind {
            26 | 27 => self.shift(user),
            28 => {
                let event = Input::Gone { client: user.client, origin: Origin(0) };
                if user.client.transport != Transport::Udp {
                    self.lab.server.handle(self.lab.now, event, &mut self.lab.wire);
                    self.model.gone(user.client);
                }
            }
            // Seldom, or there would be nothing to try the rest on.
            29 if self.random.below(200) == 0 => self.crash(),
            29 => {
                let draining = self.random.below(4) == 0;
                self.lab.server.set_draining(draining);
                self.model.draining = draining;
            }
            30 if self.random.below(8) == 0 => self.wall_clock_steps(),
            30 | 31 => self.unreachable(),
            32 => self.allocate_tcp(user),
            33 => {
                let user = self.stream_user();
                for _ in 0..=self.random.below(4) {
                    self.connect(user.clone());
                    self.compare();
                }
            }
            34 => self.accept(),
            _ => self.join_or_end(user),
        }
    }

    /// A Refresh with some ticket, from some five-tuple.
    fn shift(&mut self, user: User) {
        let known: Vec<&Vec<u8>> = self.model.tickets.keys().collect();
        let ticket = match known.len() {
            0 => vec![1; 44],
            // Garbage, now and then.
            len if self.random.below(20) == 0 => vec![len as u8; 44],
            len => known[self.random.below(len)].clone(),
        };
        // Mostly the owner's.
        let owner = self.model.tickets.get(&ticket).and_then(|&(id, _)| {
            let is = |a: &&reference::Allocation| a.mobile.as_ref().is_some_and(|m| m.id == id);
            self.model.everybody().find(is).map(|found| found.user.clone())
        });
        let name = match owner {
            Some(owner) if self.random.below(8) != 0 => owner,
            _ => user.name.clone(),
        };
        let user = match name == user.name {
            true => user,
            false => User::new(&name, user.client, Mode::Legacy),
        };
        let secs = [600, 900, 1800, 0][self.random.below(100) / 33];
        self.ask(user, Op::Move { ticket, secs });
        // Tickets of what is gone are of no more use than one of them.
        if self.model.tickets.len() > 40 {
            let at = self.random.below(40);
            let ticket = self.model.tickets.keys().nth(at).expect("40 and more").clone();
            self.model.tickets.remove(&ticket);
            self.sent
                .retain(|sent| !matches!(&sent.op, Op::Move { ticket: of, .. } if *of == ticket));
        }
    }

    /// The process is killed and started again: nothing is left, and no nonce or ticket is good.
    fn crash(&mut self) {
        self.crashes += 1;
        let random = Box::new(Seeded::new(self.random.next_u64()));
        self.lab.server = Server::new(model_config(), credentials(), random, self.lab.now);
        self.lab.wire = Wire::default();
        self.model = Model {
            own: self.model.own.clone(),
            services: self.model.services.clone(),
            ids: self.model.ids,
            now: self.model.now,
            ..Model::default()
        };
        self.sent.retain(|sent| !matches!(sent.op, Op::Move { .. }));
        self.tokens.clear();
        self.rotations += 2;
    }

    /// The wall clock is set; the monotonic one goes on.
    fn wall_clock_steps(&mut self) {
        let step = Duration::from_secs(self.random.below(5000) as u64);
        let unix = self.lab.now.unix;
        let back = self.random.below(2) == 0;
        self.lab.now.unix = if back { unix - step } else { unix + step };
    }

    /// What the fast tiers were told of permissions: all that they may be, and no more.
    pub(super) fn compare_permits(&self) {
        let told = &self.lab.wire.permits;
        let permits = self.model.permits();
        for (key, permit) in told {
            let (client, expires, _) = permits[key];
            assert_eq!((permit.client, permit.expires), (client, expires), "{key:?}");
        }
        for (key, (.., unrouted)) in &permits {
            // A live channel without a route hides its peer's permission, until it is refreshed.
            assert!(told.contains_key(key) || *unrouted, "{key:?} was not told");
        }
    }

    fn unreachable(&mut self) {
        let peer = self.peer();
        let relays: Vec<SocketAddr> = self.model.relays().into_iter().collect();
        let Some(&relay) = relays.get(self.random.below(relays.len())) else { return };
        self.lab.wire.take();
        let limited = self.lab.refused(Reason::IcmpLimited);
        let icmp = Icmp { kind: 3, code: 1, data: 0 };
        self.lab.server.handle(
            self.lab.now,
            Input::Unreachable { relay, peer, icmp },
            &mut self.lab.wire,
        );
        let told = self.lab.wire.take().len();
        let here = self.model.allocations.values().flat_map(|a| a.legs.values());
        let now = self.model.now;
        let admits = here.filter(|leg| leg.relay == relay).any(|leg| {
            let bound = |b: &reference::Bound| b.peer == peer && now < b.expires;
            leg.permissions.contains_key(&peer.ip()) || leg.channels.values().any(bound)
        });
        let limited = self.lab.refused(Reason::IcmpLimited) > limited;
        assert_eq!(told, usize::from(admits && !limited), "{relay} to {peer}");
    }

    fn allocate_tcp(&mut self, user: User) {
        let mobile = self.random.below(2) == 0;
        let both = self.random.below(4) == 0;
        let (v4, v6, pair, token) = (true, both, false, None);
        self.ask(user, Op::Allocate { v4, v6, pair, token, mobile, tcp: true });
    }

    /// Somebody over TCP or TLS, with an allocation if there is none.
    fn stream_user(&mut self) -> User {
        let streams = self.users.iter().filter(|user| user.client.transport.is_stream());
        let streams: Vec<User> = streams.cloned().collect();
        let user = streams[self.random.below(streams.len())].clone();
        if self.model.find(&user.client).is_none() {
            self.allocate_tcp(user.clone());
        }
        user
    }

    /// A Connect, and at once what becomes of it.
    fn connect(&mut self, mut user: User) {
        let mut peer = self.peer();
        let listeners: Vec<SocketAddr> = self.model.listeners().into_iter().collect();
        if !listeners.is_empty() && self.random.below(4) == 0 {
            peer = listeners[self.random.below(listeners.len())];
        }
        // Where there is a connection already, now and then.
        let own = self.model.find(&user.client).and_then(|found| found.tcp.as_ref());
        if let Some(known) = own.and_then(|tcp| tcp.values().next())
            && self.random.below(3) == 0
        {
            peer = known.peer;
        }
        let op = Op::Connect(peer);
        user.learn(&mut self.lab);
        let bytes = sign(&mut self.lab, &user, &op);
        let predicted = self.model.predict(user.client, &user.name, [0; 12], &op);
        let mut events = self.lab.input(user.client, &bytes);
        if self.model.find(&user.client).is_some_and(|found| found.user == user.name) {
            self.model.arrive(user.client);
        }
        if predicted == 0 {
            let Some(&Event::Connect { id, .. }) = events.last() else { panic!("{events:?}") };
            let result = match self.random.below(3) {
                0 => Err(ConnectRefusal::Failed),
                _ => Ok(()),
            };
            if result.is_err() {
                self.lab.wire.connections.remove(&id);
            }
            self.lab.wire.take();
            let input = Input::Connected { id, result };
            self.lab.server.handle(self.lab.now, input, &mut self.lab.wire);
            events = self.lab.wire.take();
            if result.is_ok() {
                self.stands(&events, user.client, id, peer);
            }
        }
        let Some(Event::ToClient(to, answer)) = events.last() else { panic!("{events:?}") };
        assert_eq!(*to, user.client);
        let got = code(answer).unwrap_or(0);
        *self.codes.entry(got).or_default() += 1;
        assert!(got == predicted || (predicted == 0 && got == 447), "{got} for {predicted}");
    }

    /// A connection stands: CONNECTION-ID is in the last message.
    fn stands(&mut self, events: &[Event], client: Client, id: PeerConnection, peer: SocketAddr) {
        let Some(Event::ToClient(_, told)) = events.last() else { panic!("{events:?}") };
        let public = Message::parse(told).unwrap().connection_id().unwrap().expect("CONNECTION-ID");
        let until = Some(self.model.now + Duration::from_secs(30));
        let allocation = self.model.allocations.get_mut(&client).expect("it is connected");
        let tcp = allocation.tcp.as_mut().expect("a TCP allocation");
        tcp.insert(id.0, Connection { peer, public, until, data: None });
        self.publics.push(public);
    }

    /// A peer connects to some listener.
    fn accept(&mut self) {
        let listeners: Vec<SocketAddr> = self.model.listeners().into_iter().collect();
        let Some(&relay) = listeners.get(self.random.below(listeners.len())) else { return };
        let mut peer = self.peer();
        // Mostly one that may.
        let legs = self.model.everybody().flat_map(|a| a.legs.values());
        let here = legs.filter(|leg| leg.relay == relay);
        let permitted: Vec<_> = here.flat_map(|leg| leg.permissions.keys().copied()).collect();
        if !permitted.is_empty() && self.random.below(4) != 0 {
            peer.set_ip(permitted[self.random.below(permitted.len())]);
        }
        let id = PeerConnection(PeerConnection::ACCEPTED | self.random.next_u64() as u32);
        let owner = self
            .model
            .allocations
            .iter()
            .find(|(_, a)| a.tcp.is_some() && a.legs.values().any(|leg| leg.relay == relay));
        let welcome = owner.filter(|(_, a)| {
            let permitted = a
                .legs
                .values()
                .any(|leg| leg.relay == relay && leg.permissions.contains_key(&peer.ip()));
            let room = a.tcp.as_ref().is_some_and(|tcp| tcp.len() < CONNECTIONS_MAX);
            permitted && room && self.model.policy_tcp(peer, true) == 0
        });
        let welcome = welcome.map(|(client, _)| *client);
        self.lab.wire.connections.insert(id, relay);
        self.lab.wire.take();
        let input = Input::Accepted { relay, peer, id };
        self.lab.server.handle(self.lab.now, input, &mut self.lab.wire);
        let events = self.lab.wire.take();
        match welcome {
            None => assert_eq!(events, [Event::ClosePeer(id)]),
            Some(client) => self.stands(&events, client, id, peer),
        }
    }

    /// A ConnectionBind, or the end of a connection by either side.
    fn join_or_end(&mut self, user: User) {
        let all = |model: &Model| -> Vec<(u32, Connection)> {
            let tcp = model.everybody().flat_map(|a| &a.tcp);
            tcp.flat_map(|tcp| tcp.iter().map(|(id, c)| (*id, c.clone()))).collect()
        };
        let connections = all(&self.model);
        let some = connections.get(self.random.below(connections.len())).cloned();
        match (self.random.below(4), some) {
            (0, Some((id, Connection { data: None, .. }))) => {
                let id = PeerConnection(id);
                self.lab.wire.connections.remove(&id);
                let input = Input::PeerClosed { id };
                self.lab.server.handle(self.lab.now, input, &mut self.lab.wire);
                self.forget(id.0);
            }
            (1, Some((id, Connection { data: Some(client), .. }))) => {
                self.lab.wire.spliced.remove(&client);
                let input = Input::Gone { client, origin: Origin(0) };
                self.lab.server.handle(self.lab.now, input, &mut self.lab.wire);
                self.forget(id);
            }
            _ => self.join(&user),
        }
    }

    fn forget(&mut self, id: u32) {
        for allocation in self.model.allocations.values_mut().chain(&mut self.model.absent) {
            allocation.tcp.iter_mut().for_each(|tcp| _ = tcp.remove(&id));
        }
    }

    fn join(&mut self, user: &User) {
        let last = self.publics.len() - 1;
        let at = if self.random.below(2) == 0 { last } else { self.random.below(last + 1) };
        let public = self.publics[at];
        if self.publics.len() > 8 {
            let at = self.random.below(self.publics.len());
            self.publics.swap_remove(at);
        }
        self.last_port = self.last_port.wrapping_add(1).max(1024);
        let mut client = over(Transport::Tcp, client(300));
        client.remote.set_port(self.last_port);
        let mut data = user.at(client);
        data.learn(&mut self.lab);
        let op = Op::ConnectionBind(public);
        let bytes = sign(&mut self.lab, &data, &op);
        let predicted = self.model.predict(client, &data.name, [0; 12], &op);
        let answer = data.exchange(&mut self.lab, &bytes).expect("an answer");
        assert_eq!(answer.code(), predicted);
        *self.codes.entry(predicted).or_default() += 1;
        if predicted == 0 {
            for allocation in self.model.allocations.values_mut().chain(&mut self.model.absent) {
                let connections = allocation.tcp.iter_mut().flat_map(|tcp| tcp.values_mut());
                for connection in connections.filter(|c| c.public == public && c.until.is_some()) {
                    (connection.until, connection.data) = (None, Some(client));
                }
            }
        }
    }
}
