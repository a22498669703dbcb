//! A link of one listener and lanes, and clients over loopback, where a datagram that was sent has
//! arrived.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use super::super::*;
use super::*;
use crate::counting;
use std::net::UdpSocket;
use turnwire_tests::random::Random;

const LANES: usize = 4;
const CLIENTS: usize = 8;
const START: Duration = Duration::from_secs(1000);

/// Clients that send numbers, each its own from 0 on, and the worker's link that reads them.
struct Crowd {
    link: SocketLink,
    to: SocketAddr,
    clients: Vec<UdpSocket>,
    sent: Vec<u32>,
    read: Vec<u32>,
    /// What came by the listener, and by lanes.
    came: [usize; 2],
    now: Duration,
    /// Allocations of the link.
    allocated: u64,
}

impl Crowd {
    /// `buffer`: bytes of each lane's; the listener has 1 MiB.
    fn new(buffer: usize) -> Self {
        let poll = Poll::new().unwrap();
        let bind = |to, receive| bind_listener(to, true, BufferSizes { receive, send: 1 << 20 });
        let listener = bind("127.0.0.1:0".parse().unwrap(), 1 << 20).unwrap();
        let to = listener.local();
        let lanes: Vec<_> = (0..LANES).map(|_| bind(to, buffer).unwrap()).collect();
        for (at, socket) in std::iter::once(&listener).chain(&lanes).enumerate() {
            register(poll.registry(), socket, SocketId::listener(at)).unwrap();
        }
        let waker = Arc::new(mio::Waker::new(poll.registry(), WAKE).unwrap());
        let spreading = Spreading::new(&[(to, false)], vec![waker], LANES);
        spreading.begin([&listener]).unwrap();
        let sockets = (vec![listener], lanes);
        let spreading = Some(Member::new(Arc::new(spreading), 0));
        let link = SocketLink::with_lanes(poll, sockets, Offload::default(), spreading);
        let clients = (0..CLIENTS).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
        let (sent, read) = (vec![0; CLIENTS], vec![0; CLIENTS]);
        Self { link, to, clients, sent, read, came: [0; 2], now: START, allocated: 0 }
    }

    fn send(&mut self, client: usize, count: usize) {
        for _ in 0..count {
            let number = self.sent[client].to_be_bytes();
            self.clients[client].send_to(&number, self.to).unwrap();
            self.sent[client] += 1;
        }
    }

    /// Reads one batch of at most `room` datagrams; by which socket each client's came.
    fn read(&mut self, room: usize) -> Vec<(usize, SocketId)> {
        let mut batch = Batch::new(room, 100);
        let before = counting::counted_here();
        self.link.wait(Some(Duration::ZERO)).unwrap();
        self.link.begin_round(self.now);
        while !batch.is_full() && self.link.receive(&mut batch).is_some() {}
        self.allocated += counting::counted_here() - before;
        let mut read = Vec::new();
        for index in 0..batch.len() {
            let from = batch.arrival(index).remote;
            let is_from = |client: &UdpSocket| client.local_addr().unwrap() == from;
            let client = self.clients.iter().position(is_from).unwrap();
            let number = u32::from_be_bytes(batch.payload(index).try_into().unwrap());
            // lost ones leave a gap: who expects none compares the counts
            assert!(number >= self.read[client], "client {client}: {number} is late");
            self.read[client] = number + 1;
            self.came[usize::from(batch.by(index) != SocketId::listener(0))] += 1;
            read.push((client, batch.by(index)));
        }
        read
    }

    /// Reads all that is there.
    fn drain(&mut self) {
        self.link.wait(Some(Duration::ZERO)).unwrap();
        while self.link.is_ready() {
            self.read(64);
        }
        assert_eq!(self.came.iter().sum::<usize>(), self.sent.iter().sum::<u32>() as usize);
    }

    /// Learns what became ready.
    fn wait(&mut self) {
        self.link.wait(Some(Duration::ZERO)).unwrap();
    }

    /// How often clients have come another way.
    fn changes(&self) -> u64 {
        self.link.spreading.as_ref().unwrap().spreading.changes.load(Relaxed)
    }

    /// A round that finds nothing, and the sleep behind it.
    fn drain_at(&mut self) {
        self.link.begin_round(self.now);
        self.drain();
    }

    /// As if the worker were behind; or as if the time were over.
    fn change(&mut self, spread: bool) {
        self.link.behind = spread;
        self.now += if spread { Duration::from_millis(1) } else { SPREAD_MAX };
        let before = counting::counted_here();
        self.link.begin_round(self.now);
        self.allocated += counting::counted_here() - before;
    }
}

#[test]
fn a_clients_datagrams_never_overtake_each_other_however_often_clients_are_spread() {
    // given
    let mut random = Random::replayable(60);
    let mut crowd = Crowd::new(1 << 20);
    let (mut tried, mut begun) = (0, 0);
    // when clients send, the worker reads with too little room, and all is to change at any time
    for _ in 0..4000 {
        for _ in 0..random.below(4) {
            let (client, count) = (random.below(CLIENTS), 1 + random.below(9));
            crowd.send(client, count);
        }
        crowd.read(1 + random.below(8));
        if random.one_in(20) {
            let before = crowd.changes();
            crowd.change(before.is_multiple_of(2));
            tried += 1;
            begun += u64::from(crowd.changes() > before && before.is_multiple_of(2));
            let client = random.below(CLIENTS);
            crowd.send(client, 20);
        }
        if random.one_in(30) {
            crowd.drain();
        }
    }
    // then none was lost, nothing was allocated, both ways were used, and no two changes met
    crowd.drain();
    assert_eq!((&crowd.sent, crowd.allocated), (&crowd.read, 0));
    let changes = crowd.changes();
    assert!(changes > 50 && crowd.came.iter().all(|&came| came > 1000), "{:?}", crowd.came);
    assert!(changes < tried, "{changes} changes of {tried}: some had to wait");
    assert_eq!(crowd.link.oddities().spreads, begun, "after {changes} changes");
}

#[test]
fn clients_stay_spread_for_longer_where_that_is_needed_again_at_once() {
    // given a crowd whose worker is behind whenever it is asked
    let mut crowd = Crowd::new(1 << 20);
    let lasted = |crowd: &mut Crowd, pause: Duration| {
        crowd.now += pause;
        crowd.link.behind = true;
        crowd.drain_at();
        let (begin, changes) = (crowd.now, crowd.changes());
        assert!(!changes.is_multiple_of(2), "not spread");
        while crowd.changes() == changes {
            crowd.now += Duration::from_millis(100);
            crowd.drain_at();
        }
        crowd.drain_at();
        (crowd.now - begin).as_secs()
    };
    let at_once = Duration::from_millis(20);
    // then
    let spans: Vec<_> = (0..6).map(|_| lasted(&mut crowd, at_once)).collect();
    assert_eq!(spans, [1, 2, 4, 8, 16, 16]);
    // and from the beginning where it kept up for a while
    assert_eq!(lasted(&mut crowd, AGAIN), 1);
    assert_eq!(lasted(&mut crowd, at_once), 2);
}

#[test]
fn clients_stay_spread_while_a_worker_lives_by_it() {
    // given two workers whose clients are spread
    let wakers = [Poll::new().unwrap(), Poll::new().unwrap()]
        .map(|poll| Arc::new(mio::Waker::new(poll.registry(), WAKE).unwrap()));
    let spreading = Arc::new(Spreading::new(&[], wakers.to_vec(), 1));
    let mut members = [0, 1].map(|worker| Member::new(Arc::clone(&spreading), worker));
    assert!(spreading.look(true, START, []));
    members.iter_mut().for_each(|member| {
        member.changed();
        member.settle();
    });
    // when the second sends two at once for ten seconds, without a rest, while the first has nothing
    // to do
    let mut now = START;
    let mut go_on = |seconds: u32, datagrams: usize| {
        for _ in 0..seconds * 100 {
            now += Duration::from_millis(10);
            members[0].pressure.rest();
            members[1].pressure.sent(datagrams, 100);
            members.iter_mut().for_each(|member| member.round(now));
            assert!(!spreading.look(false, now, []));
        }
        spreading.changes.load(Relaxed)
    };
    // then they stay spread until it no longer does
    assert_eq!(go_on(10, 200), 1);
    assert_eq!(go_on(3, 150), 2);
}

#[test]
fn no_change_comes_before_every_worker_is_done_with_the_last() {
    // given two workers, and the first has clients spread
    let wakers = [Poll::new().unwrap(), Poll::new().unwrap()]
        .map(|poll| Arc::new(mio::Waker::new(poll.registry(), WAKE).unwrap()));
    let spreading = Arc::new(Spreading::new(&[], wakers.to_vec(), 1));
    let mut members = [0, 1].map(|worker| Member::new(Arc::clone(&spreading), worker));
    assert!(spreading.look(true, START, []));
    // when only the first has seen it through, however late it is
    assert_eq!(members[0].changed(), Some(Kind::Listeners));
    members[0].settle();
    assert!(!spreading.look(false, START + 10 * SPREAD_MAX, []));
    assert_eq!(spreading.changes.load(Relaxed), 1, "the second may have some waiting");
    // then it ends once the second has, too
    assert_eq!(members[1].changed(), Some(Kind::Listeners));
    assert_eq!(members[1].unsettled(), Some(Kind::Listeners));
    members[1].settle();
    spreading.look(false, START + 10 * SPREAD_MAX, []);
    assert_eq!(spreading.changes.load(Relaxed), 2);
    assert_eq!(members.map(|mut member| member.changed()), [Some(Kind::Lanes); 2]);
}

#[test]
fn a_worker_that_falls_behind_has_its_clients_spread_until_the_time_is_over() {
    let mut crowd = Crowd::new(1 << 20);
    // given a listener that is drained now and then
    for _ in 0..50 {
        (0..CLIENTS).for_each(|client| crowd.send(client, 16));
        crowd.read(64);
        crowd.drain();
    }
    let oddities = crowd.link.oddities();
    assert_eq!((oddities.spreads, oddities.is_spread, crowd.came[1]), (0, false, 0));
    // when it always has more than a batch takes
    crowd.send(0, 64);
    for _ in 0..=BEHIND / 64 {
        crowd.send(1, 64);
        crowd.read(64);
    }
    crowd.drain();
    crowd.send(2, 1);
    crowd.drain();
    // then
    let oddities = crowd.link.oddities();
    assert_eq!((oddities.spreads, oddities.is_spread, crowd.came[1]), (1, true, 1));
    // and later
    crowd.now += SPREAD_MIN;
    crowd.read(64);
    (0..CLIENTS).for_each(|client| crowd.send(client, 16));
    crowd.drain();
    let oddities = crowd.link.oddities();
    assert_eq!((oddities.spreads, oddities.is_spread, crowd.came[1]), (1, false, 1));
    assert_eq!((crowd.sent.clone(), oddities.overflowed), (crowd.read, 0));
}

#[test]
fn a_relay_port_that_is_flooded_spreads_no_clients() {
    // given a relay port beside the listener
    let mut crowd = Crowd::new(1 << 20);
    let sizes = BufferSizes { receive: 1 << 20, send: 1 << 20 };
    let port = bind_listener("127.0.0.1:0".parse().unwrap(), false, sizes).unwrap();
    let to = port.local();
    register(crowd.link.poll.registry(), &port, SocketId::port(0)).unwrap();
    assert!(crowd.link.open(0, port).is_none());
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    let send = |many| (0..many).for_each(|_| assert_eq!(peer.send_to(&[7; 4], to).unwrap(), 4));
    // when it always has more than a batch takes
    let mut batch = Batch::new(64, 100);
    send(64);
    for _ in 0..=BEHIND / 64 {
        send(64);
        batch.clear();
        crowd.link.wait(Some(Duration::ZERO)).unwrap();
        crowd.now += Duration::from_millis(1);
        crowd.link.begin_round(crowd.now);
        while !batch.is_full() && crowd.link.receive(&mut batch).is_some() {}
        assert_eq!(batch.len(), 64);
    }
    crowd.link.begin_round(crowd.now);
    // then
    assert_eq!(crowd.link.oddities().spreads, 0);
}

/// A crowd that is spread, and two of its clients with lanes of their own.
fn apart(buffer: usize) -> (Crowd, [(usize, SocketId); 2]) {
    let mut crowd = Crowd::new(buffer);
    crowd.change(true);
    (0..CLIENTS).for_each(|client| crowd.send(client, 1));
    let lanes = crowd.read(64);
    let other = lanes.iter().find(|(_, lane)| *lane != lanes[0].1);
    (crowd, [lanes[0], *other.expect("eight clients in one lane of four")])
}

#[test]
fn a_socket_that_the_end_of_a_batch_cut_off_goes_on_with_the_next() {
    // given two lanes with more than a batch takes
    let (mut crowd, clients) = apart(1 << 20);
    clients.iter().for_each(|(client, _)| crowd.send(*client, 10));
    // when
    let batches: Vec<Vec<_>> = (0..4).map(|_| crowd.read(6)).collect();
    // then the second has its turn when the first has ended
    let first = batches[0][0].0;
    let seconds: Vec<usize> = batches
        .iter()
        .map(|batch| batch.iter().filter(|(client, _)| *client != first).count())
        .collect();
    assert_eq!(batches.iter().map(Vec::len).collect::<Vec<_>>(), [6, 6, 6, 2]);
    assert_eq!(seconds, [0, 2, 6, 2]);
    // and one that gives more than a turn lets the other in between
    let (flooding, calm) = (clients[0].0, clients[1].0);
    crowd.send(flooding, LANE_TURN_MAX + 100);
    crowd.wait();
    crowd.send(calm, 1);
    let order: Vec<usize> = (0..8).flat_map(|_| crowd.read(64)).map(|(client, _)| client).collect();
    assert_eq!(order.iter().position(|client| *client == calm), Some(LANE_TURN_MAX));
    assert_eq!(order.len(), LANE_TURN_MAX + 101);
}

#[test]
fn a_client_that_floods_fills_its_own_lane() {
    // given clients in lanes of their own
    let (mut crowd, [(flooding, _), (other, _)]) = apart(64 << 10);
    // when one sends more than any lane holds, and the other a little
    crowd.send(flooding, 5000);
    crowd.send(other, 20);
    while crowd.link.is_ready() || !crowd.read(64).is_empty() {
        crowd.read(64);
    }
    // one more tells of the drops
    crowd.send(flooding, 1);
    crowd.read(64);
    // then only the first lost some
    assert_eq!(crowd.read[other], 21);
    let lost = 5002 + 20 + CLIENTS - 1 + 1 - 1 - crowd.came[1];
    assert!(lost > 1000, "{lost}");
    assert_eq!(crowd.link.oddities().overflowed, lost as u64);
}

#[test]
fn sockets_that_both_go_on_receiving_are_read_both() {
    // given a link that waits for its listener to be drained before it reads lanes
    let mut crowd = Crowd::new(1 << 20);
    crowd.send(0, 2);
    crowd.change(true);
    crowd.send(1, 1);
    // when the listener never is, since the kernel gives it more and more again
    let programs = &crowd.link.spreading.as_ref().unwrap().spreading.programs[0];
    programs.attach(crowd.link.listeners[0].bound.descriptor(), false).unwrap();
    let mut lanes = Vec::new();
    for turn in 0.. {
        assert!(turn < 100_000, "the lane is never read");
        crowd.send(0, 1);
        lanes.extend(crowd.read(1).into_iter().filter(|(client, _)| *client == 1));
        if !lanes.is_empty() {
            break;
        }
    }
    // then the lane's turn comes nevertheless
    assert_ne!(lanes[0].1, SocketId::listener(0));
}
