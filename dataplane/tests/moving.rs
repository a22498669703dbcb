//! A relay port that goes from owner to owner while its peer sends (RFC 8016). A test binary of its
//! own, because it counts the process's descriptors.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

#[path = "support/rig.rs"]
mod rig;

use dataplane::{Client, Config, OpenPortError, Route, Sessions, Transport, Tuning, monotonic};
use rig::{Host, PATIENCE, Rig, Told, channel_data, config, stun, udp};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::time::Duration;

/// Datagrams of the peer.
const NUMBERS: u32 = 10_000;
/// Of which so many are sent before the port moves again.
const BETWEEN: u32 = 250;
/// Most that are on their way at once: a receive buffer holds them.
const AHEAD: u32 = 400;
const CHANNEL: u16 = 0x4001;
/// Two workers, then two session threads.
const OWNERS: [usize; 9] = [2, 3, 0, 1, 3, 2, 1, 2, 0];

/// Only one test at a time counts descriptors.
static ALONE: Mutex<()> = Mutex::new(());

/// Two workers and two session threads, a client of the workers, one of each session thread.
struct World {
    rig: Rig,
    udp: Host,
    streams: [(TcpStream, Client, Vec<u8>); 2],
    /// Clients that are not wanted: they stay, or their end would be told at any time.
    _others: Vec<TcpStream>,
    peer: Host,
    /// Numbers in the order in which they came, by whom they came to: the UDP client, the two
    /// stream clients, the control thread.
    came: [Vec<u32>; 4],
}

impl World {
    fn new() -> Self {
        let sessions =
            Sessions { tcp_listen: vec!["127.0.0.1:0".parse().unwrap()], ..Sessions::default() };
        let config = Config { sessions, ..config(2, &["127.0.0.1:0"]) };
        let mut rig = Rig::tuned(config, Tuning::default());
        let (mut first, mut second, mut others) = (None, None, Vec::new());
        // the kernel chooses the thread by the client's port
        while first.is_none() || second.is_none() {
            let mut stream = TcpStream::connect(rig.plane.session_addresses().tcp[0]).unwrap();
            stream.write_all(&stun(0)).unwrap();
            let told = rig.told(1, PATIENCE);
            let [Told::Client { worker, transport, local, remote, .. }] = told[..] else {
                panic!("{told:?}")
            };
            stream.set_nonblocking(true).unwrap();
            let place = if worker == 2 { &mut first } else { &mut second };
            match place {
                None => *place = Some((stream, Client { transport, local, remote }, Vec::new())),
                Some(_) => others.push(stream),
            }
        }
        let (udp, peer) = (Host::new("127.0.0.1"), Host::new("127.0.0.1"));
        let streams = [first.unwrap(), second.unwrap()];
        Self { rig, udp, streams, _others: others, peer, came: Default::default() }
    }

    /// The client that `worker` serves.
    fn client(&self, worker: usize) -> Client {
        match worker {
            0 | 1 => udp(self.rig.listener(0), self.udp.address),
            session => self.streams[session - 2].1,
        }
    }

    /// A channel on a port that the first worker has.
    fn open(&mut self) -> Route {
        let Client { transport, local: listener, remote: client } = self.client(0);
        let (port, relay) = self.rig.open(0, "127.0.0.1");
        let expires = monotonic() + Duration::from_secs(600);
        let (channel, peer, inner) = (CHANNEL, self.peer.address, false);
        let route =
            Route { transport, client, listener, channel, relay, port, peer, expires, inner };
        self.rig.plane.add_route(&route).unwrap();
        route
    }

    /// As the control thread does it.
    fn move_to(&mut self, old: &Route, worker: usize) -> Route {
        let port = self.rig.plane.move_port(old.port, worker).unwrap();
        let Client { transport, local: listener, remote: client } = self.client(worker);
        let new = Route { transport, client, listener, port, ..*old };
        self.rig.plane.add_route(&new).unwrap();
        if old.client != new.client {
            self.rig.plane.remove_route(&Route { port, ..*old });
            self.rig.plane.add_route(&new).unwrap();
        }
        self.rig.plane.flush();
        new
    }

    /// Takes in what has come to anyone.
    fn look(&mut self, relay: SocketAddr) {
        let Self { rig, udp, streams, came, .. } = self;
        udp.each(1, Duration::from_micros(100), |_, bytes| came[0].push(number(&bytes[4..])));
        for ((stream, _, bytes), came) in streams.iter_mut().zip(&mut came[1..]) {
            let mut piece = [0; 65_536];
            match stream.read(&mut piece) {
                Ok(size) => bytes.extend(&piece[..size]),
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
            let whole = bytes.len() / 8 * 8;
            came.extend(bytes.drain(..whole).as_slice().chunks(8).map(|frame| number(&frame[4..])));
        }
        for told in rig.told(0, Duration::ZERO) {
            let Told::Peer { relay: to, bytes, .. } = told else { panic!("{told:?}") };
            assert_eq!(to, relay);
            came[3].push(number(&bytes));
        }
    }

    fn count(&self) -> u32 {
        self.came.iter().map(|came| came.len() as u32).sum()
    }

    /// Takes in what comes until there are so many.
    fn until(&mut self, relay: SocketAddr, count: u32) {
        let end = monotonic() + PATIENCE;
        while self.count() < count {
            let some = self.came.each_ref().map(Vec::len);
            assert!(monotonic() < end, "{some:?} of {count}\n{:#?}", self.rig.plane.stats());
            self.look(relay);
            std::thread::yield_now();
        }
    }

    /// The client of `worker` reaches its peer, soon by a worker alone.
    fn reach_peer(&mut self, route: &Route, worker: usize) {
        for _ in 0..100 {
            let message = channel_data(CHANNEL, b"back", 0);
            match worker {
                0 | 1 => self.udp.send(route.listener, &message),
                session => self.streams[session - 2].0.write_all(&message).unwrap(),
            }
            match &self.rig.either(&mut self.peer) {
                (got, told) if told.is_empty() => {
                    let [got] = &got[..] else { panic!("{got:?}") };
                    assert_eq!((got.from, &got.bytes[..]), (route.relay, &b"back"[..]));
                    return;
                }
                // the worker that the client reaches asks for the port
                (got, told) => {
                    let [Told::Client { worker: asked, .. }] = told[..] else { panic!("{told:?}") };
                    let other = asked != route.port.worker() && worker < 2;
                    assert!(other && got.is_empty(), "{asked}: {route:?}");
                }
            }
        }
        panic!("never: {route:?}");
    }

    fn ports(&self) -> Vec<u64> {
        self.rig.plane.stats().workers.iter().map(|worker| worker.ports).collect()
    }
}

fn number(bytes: &[u8]) -> u32 {
    u32::from_be_bytes(bytes.try_into().unwrap())
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}

#[test]
fn a_port_goes_from_owner_to_owner_and_no_datagram_is_lost_or_doubled_or_overtaken() {
    let _alone = ALONE.lock().unwrap_or_else(|error| error.into_inner());
    // given
    let mut world = World::new();
    let mut route = world.open();
    let (relay, peer) = (route.relay, world.peer.address);
    assert_eq!(peer, route.peer);
    world.rig.until("the port is there", |stats| stats.workers[0].ports == 1);
    let before = descriptors();
    // when it moves in the middle of what its peer sends
    let mut owners = OWNERS.into_iter().cycle();
    for number in 0..NUMBERS {
        if number % BETWEEN == BETWEEN / 2 {
            route = world.move_to(&route, owners.next().unwrap());
        }
        if number % BETWEEN == BETWEEN - 1 {
            // a quiet moment: the other way
            world.until(relay, number);
            let worker = route.port.worker();
            world.reach_peer(&route, worker);
        }
        world.peer.send(relay, &number.to_be_bytes());
        if number % 64 == 63 {
            world.until(relay, number.saturating_sub(AHEAD));
        }
    }
    world.until(relay, NUMBERS);
    // then each number came to one place, once
    let mut all: Vec<_> = world.came.concat();
    all.sort_unstable();
    assert!(all.into_iter().eq(0..NUMBERS));
    // in order, and by one owner after the other: two at a time would take them in turns
    let mut takers = vec![3; NUMBERS as usize];
    for (who, came) in world.came.iter().enumerate() {
        came.iter().for_each(|number| takers[*number as usize] = who);
    }
    takers.retain(|who| *who != 3);
    let changes = takers.windows(2).filter(|pair| pair[0] != pair[1]).count();
    assert!(changes <= (NUMBERS / BETWEEN) as usize, "{changes} changes");
    for (who, came) in world.came.iter().enumerate() {
        assert!(came.is_sorted(), "{who}: {came:?}");
        assert!(who == 3 || came.len() > 1000, "{who} served {}", came.len());
    }
    // and the last owner alone has the port, with no descriptor left over
    route = world.move_to(&route, 0);
    world.until(relay, NUMBERS);
    let end = monotonic() + PATIENCE;
    while world.ports() != [1, 0, 0, 0] || descriptors() > before + 1 {
        assert!(monotonic() < end, "{:?}, {} of {before}", world.ports(), descriptors());
        world.look(relay);
        std::thread::sleep(Duration::from_millis(1));
    }
    // and nobody else is woken by it
    let wakeups = |world: &World| {
        world.rig.plane.stats().workers[1..].iter().map(|worker| worker.wakeups).sum::<u64>()
    };
    let woken = wakeups(&world);
    for number in NUMBERS..NUMBERS + 100 {
        world.peer.send(relay, &number.to_be_bytes());
        world.until(relay, number + 1);
    }
    // but for one that was on its way: a socket left in a poller wakes it for each datagram
    assert!(wakeups(&world) - woken < 10, "{woken} and then {}", wakeups(&world));
    // and closing it frees the address, and what was lent
    world.rig.plane.remove_route(&route);
    world.rig.plane.close_port(route.port);
    world.rig.plane.flush();
    let end = monotonic() + PATIENCE;
    while descriptors() != before - 1 || world.ports() != [0; 4] {
        assert!(monotonic() < end, "{} instead of {}", descriptors(), before - 1);
        world.rig.told(1, Duration::from_millis(1));
    }
    std::net::UdpSocket::bind(relay).unwrap();
}

#[test]
fn what_an_old_owner_has_told_and_nobody_has_read_yet_is_the_new_owners() {
    let _alone = ALONE.lock().unwrap_or_else(|error| error.into_inner());
    // given datagrams of a peer without a channel, in the ring to the control thread
    let mut world = World::new();
    let route = world.open();
    let mut stranger = Host::new("127.0.0.1");
    let told = |stats: &dataplane::stats::Snapshot| stats.workers[0].peers_to_control;
    (0..20_u32).for_each(|number| stranger.send(route.relay, &number.to_be_bytes()));
    world.rig.until("all are told", |stats| told(stats) == 20);
    // when the port moves twice
    let port = world.rig.plane.move_port(route.port, 3).unwrap();
    let port = world.rig.plane.move_port(port, 2).unwrap();
    world.rig.plane.flush();
    world.rig.until("it is there", |stats| stats.workers[2].ports == 1);
    // then
    let told = world.rig.told(20, PATIENCE);
    assert_eq!(told.len(), 20);
    for (number, told) in (0..).zip(told) {
        let Told::Peer { port: of, relay, peer, bytes, .. } = told else { panic!("{told:?}") };
        assert_eq!((of, relay, peer), (port, route.relay, stranger.address));
        assert_eq!(bytes, u32::to_be_bytes(number));
    }
    // and what it tells, once it listens, is nobody's once the port is closed
    stranger.send(route.relay, &[1; 4]);
    assert_eq!(world.rig.told(1, PATIENCE).len(), 1);
    let before = world.rig.plane.stats().workers[2].peers_to_control;
    stranger.send(route.relay, &[0; 4]);
    world.rig.until("it is told", |stats| stats.workers[2].peers_to_control > before);
    world.rig.plane.close_port(port);
    assert_eq!(world.rig.told(1, Duration::from_millis(20)), []);
}

#[test]
fn a_port_closed_or_moved_on_before_its_old_owner_has_let_go_leaves_nothing_behind() {
    let _alone = ALONE.lock().unwrap_or_else(|error| error.into_inner());
    let mut world = World::new();
    let before = descriptors();
    for round in 0..50 {
        // given a port that moves on and on without a word to the workers
        let mut route = world.open();
        let relay = route.relay;
        for worker in OWNERS.into_iter().cycle().skip(round % OWNERS.len()).take(1 + round % 7) {
            let port = world.rig.plane.move_port(route.port, worker).unwrap();
            assert_eq!(world.rig.plane.move_port(port, worker).unwrap(), port);
            assert!(port == route.port || world.rig.plane.move_port(route.port, 1).is_err());
            route.port = port;
        }
        // when it is closed, every other time with a datagram in its buffer
        if round % 2 == 0 {
            world.peer.send(relay, &[0; 4]);
        }
        world.rig.plane.remove_route(&route);
        world.rig.plane.close_port(route.port);
        world.rig.plane.flush();
        // then all of it is gone
        let end = monotonic() + PATIENCE;
        while descriptors() != before || world.ports() != [0; 4] {
            assert!(monotonic() < end, "{}: {} of {before}", round, descriptors());
            world.rig.told(1, Duration::from_millis(1));
        }
        std::net::UdpSocket::bind(relay).unwrap();
    }
}

#[test]
fn a_move_that_cannot_be_is_refused_and_leaves_everything_as_it_was() {
    let _alone = ALONE.lock().unwrap_or_else(|error| error.into_inner());
    // given a session thread that is behind with its commands
    let mut world = World::new();
    let route = world.open();
    let relay = route.relay;
    world.rig.until("the port is there", |stats| stats.workers[0].ports == 1);
    let stream = world.client(2);
    let decoy = world.rig.open(2, "127.0.0.1").0;
    let elsewhere = Route { port: decoy, client: stream.remote, listener: stream.local, ..route };
    let many = Route { transport: Transport::Tcp, ..elsewhere };
    let before = descriptors();
    let mut refused = None;
    // when more is commanded than it carries out meanwhile
    for _ in 0..20 {
        (0..5_000).for_each(|_| _ = world.rig.plane.remove_route(&many));
        refused = world.rig.plane.move_port(route.port, 2).err();
        if refused.is_some() {
            break;
        }
    }
    // then
    assert!(matches!(refused, Some(OpenPortError::Behind)), "{refused:?}");
    assert!(world.rig.plane.move_port(route.port, 4).is_err(), "there is no such worker");
    assert_eq!(descriptors(), before);
    world.peer.send(relay, &7_u32.to_be_bytes());
    world.until(relay, 1);
    assert_eq!(world.came[0], [7]);
    world.reach_peer(&route, 0);
    // and once it has caught up, it gets the port
    let end = monotonic() + PATIENCE;
    let port = loop {
        match world.rig.plane.move_port(route.port, 2) {
            Ok(port) => break port,
            Err(error) => assert!(monotonic() < end, "{error}"),
        }
        world.look(relay);
        std::thread::sleep(Duration::from_millis(1));
    };
    assert_eq!(port.worker(), 2);
}
