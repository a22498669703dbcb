//! A worker that is behind has clients spread over lanes, and brought together again: a whole relay, both
//! families, two workers, and every client's datagrams in their order.

use std::net::UdpSocket;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use turnwire_tests::call::{CHANNEL, Call};
use turnwire_tests::client::channel_data;
use turnwire_tests::faults::StoppedThread;
use turnwire_tests::lab::{Family, Host, Lab, Topology, in_lab};
use turnwire_tests::relay::{Direction, Launch, RelayUnderTest, Tier};
use turnwire_tests::wait::{self, Deadline};

/// Calls of each family: of the first, some reach either worker, whatever their ports.
const CALLS: [(Family, usize); 2] = [(Family::V4, 32), (Family::V6, 8)];
/// More than a listener gives before its worker is behind (1,024), and the batch in which it ends.
const BACKLOG: u32 = 1_400;
/// How often a worker is held up; clients are spread for twice as long each time.
const ATTEMPTS: u64 = 5;
/// Datagrams on their way at once, where nothing stands still: a veth's ring holds 256.
const WINDOW: u64 = 96;
/// For what takes a second or two.
const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn a_relay_that_fell_behind_spreads_its_clients_and_no_datagram_is_lost_or_late() {
    in_lab(Topology::TwoArmed, |lab| {
        let launch = Launch { options: &["--cores", "0,1"], ..Launch::of(Tier::Sockets) };
        let relay = RelayUnderTest::launch(lab, &launch)?;
        let mut crowd = Crowd::gather(lab, &relay)?;
        ensure!(crowd.spread()? == 0, "spread from the beginning");
        let held = crowd.of_first_worker()?;
        // given a worker that does not get to run; again where the machine was too busy to see what
        // that led to, which then lasts longer
        let mut seen = false;
        for attempt in 1..=ATTEMPTS {
            let stopped = StoppedThread::stop(relay.pid(), "turnwire-w0")?;
            crowd.pile_up(&held)?;
            // when it does
            drop(stopped);
            crowd.settle().context("the backlog")?;
            // then all clients come by lanes, and go on meanwhile
            let mut begun = false;
            crowd.go_on("both workers' clients are spread", |crowd| {
                let spread = crowd.spread()?;
                seen = spread == 2;
                let over = begun && spread == 0;
                begun = crowd.spreads()? == attempt;
                Ok(seen || over)
            })?;
            if seen {
                break;
            }
        }
        ensure!(seen, "never seen to be spread");
        // and when the time is over, by listeners
        crowd.go_on("they are together again", |crowd| Ok(crowd.spread()? == 0))?;
        let overflows = relay.metrics()?.sum("turnwire_worker_socket_overflows_total", &[]);
        ensure!(overflows == 0, "{overflows} lost in full sockets");
        Ok(())
    });
}

/// One way of a call, with numbered datagrams.
struct Line {
    from: UdpSocket,
    to: UdpSocket,
    direction: Direction,
    sent: u32,
    received: u32,
}

impl Line {
    /// Each longer than the one before, for as long as that matters: so the kernel merges none.
    fn send(&mut self) -> Result<()> {
        let mut data = self.sent.to_be_bytes().to_vec();
        data.resize(8 + self.sent as usize % 1_024, 0xa5);
        if self.direction == Direction::ToPeer {
            data = channel_data(CHANNEL, &data);
        }
        self.from.send(&data)?;
        self.sent += 1;
        Ok(())
    }

    /// Takes what has come, each in its turn.
    fn take(&mut self) -> Result<()> {
        let mut bytes = [0; 2048];
        while let Ok(size) = self.to.recv(&mut bytes) {
            let wrapped = if self.direction == Direction::ToClient { 4 } else { 0 };
            let number = bytes.get(wrapped..wrapped + 4).context("a number")?;
            let number = u32::from_be_bytes(number.try_into()?);
            let Self { direction, received, sent, .. } = self;
            ensure!(number == *received, "{direction:?}: {number} where {received} was next");
            ensure!(size == wrapped + 8 + number as usize % 1_024 && number < *sent);
            self.received += 1;
        }
        Ok(())
    }
}

struct Crowd<'l> {
    lab: &'l Lab,
    relay: &'l RelayUnderTest<'l>,
    /// Keep their allocations.
    _calls: Vec<Call>,
    /// First those from IPv4 clients.
    lines: Vec<Line>,
    /// What the relay's interface had received before, and datagrams that were sent since.
    entered: u64,
}

impl<'l> Crowd<'l> {
    fn gather(lab: &'l Lab, relay: &'l RelayUnderTest<'l>) -> Result<Self> {
        let mut lines = Vec::new();
        let mut calls = Vec::new();
        for (family, count) in CALLS {
            for _ in 0..count {
                let mut call = Call::set_up(lab, family, family)?;
                for direction in Direction::ALL {
                    // the first may go by the control thread
                    wait::until("it gets through", PATIENCE, || {
                        Ok(call.gets_through(direction)?.then_some(()))
                    })?;
                }
                calls.push(call);
            }
        }
        for direction in Direction::ALL {
            for call in &calls {
                let (client, peer) = (call.client.socket(), &call.peer);
                let (from, to) = match direction {
                    Direction::ToPeer => (client, peer),
                    Direction::ToClient => (peer, client),
                };
                let (from, to) = (from.try_clone()?, to.try_clone()?);
                to.set_nonblocking(true)?;
                lines.push(Line { from, to, direction, sent: 0, received: 0 });
            }
        }
        let mut crowd = Self { lab, relay, _calls: calls, lines, entered: 0 };
        crowd.entered = crowd.frames()?;
        Ok(crowd)
    }

    /// Workers whose clients come by lanes.
    fn spread(&self) -> Result<u64> {
        Ok(self.relay.metrics()?.sum("turnwire_worker_spread", &[]))
    }

    /// How often workers have fallen behind.
    fn spreads(&self) -> Result<u64> {
        Ok(self.relay.metrics()?.sum("turnwire_worker_spreads_total", &[]))
    }

    /// These lines send more than a worker takes at once, while it stands still.
    fn pile_up(&mut self, held: &[usize]) -> Result<()> {
        for _ in 0..BACKLOG.div_ceil(held.len() as u32) {
            for &line in held {
                self.lines[line].send()?;
            }
            self.arrived()?;
        }
        Ok(())
    }

    /// The lines from IPv4 clients that reach the first worker.
    fn of_first_worker(&mut self) -> Result<Vec<usize>> {
        let mut held = Vec::new();
        for line in 0..CALLS[0].1 {
            let before = self.by_first_worker()?;
            self.lines[line].send()?;
            self.settle()?;
            wait::until("it is counted", PATIENCE, || {
                let [first, all] = self.by_first_worker()?;
                if first > before[0] {
                    held.push(line);
                }
                Ok((all > before[1]).then_some(()))
            })?;
        }
        ensure!(!held.is_empty(), "no client reaches the first of two workers");
        Ok(held)
    }

    /// Datagrams to peers that the first worker has relayed, and all.
    fn by_first_worker(&self) -> Result<[u64; 2]> {
        let name = "turnwire_worker_forwarded_packets_total";
        let metrics = self.relay.metrics()?;
        let to_peer = ("direction", "to_peer");
        Ok([metrics.sum(name, &[("worker", "0"), to_peer]), metrics.sum(name, &[to_peer])])
    }

    /// Frames that the relay's host has taken in on the clients' side.
    fn frames(&self) -> Result<u64> {
        let device = self.lab.towards_client();
        let path = format!("/sys/class/net/{device}/statistics/rx_packets");
        Ok(self.lab.run(Host::Relay, &["cat", &path])?.trim().parse()?)
    }

    /// Waits until what clients have sent is in the relay's sockets: more would not fit the cable.
    fn arrived(&mut self) -> Result<()> {
        let clients = self.lines.iter().filter(|line| line.direction == Direction::ToPeer);
        let sent: u64 = clients.map(|line| u64::from(line.sent)).sum();
        wait::until("it has arrived", PATIENCE, || {
            Ok((self.frames()? >= self.entered + sent).then_some(()))
        })
    }

    /// Takes what comes until nothing is under way.
    fn settle(&mut self) -> Result<()> {
        let deadline = Deadline::after(PATIENCE);
        loop {
            let mut under_way = 0;
            for line in &mut self.lines {
                line.take()?;
                under_way += u64::from(line.sent - line.received);
            }
            if under_way == 0 {
                return Ok(());
            }
            ensure!(deadline.left().is_some(), "{under_way} are missing");
            std::thread::yield_now();
        }
    }

    /// All send each way, with few under way, until it is `over`.
    fn go_on(&mut self, what: &str, mut over: impl FnMut(&Self) -> Result<bool>) -> Result<()> {
        let deadline = Deadline::after(PATIENCE);
        while !over(self)? {
            ensure!(deadline.left().is_some(), "{what}: not within {PATIENCE:?}");
            for _ in 0..3 {
                let mut under_way = 0;
                for line in 0..self.lines.len() {
                    self.lines[line].send()?;
                    under_way += 1;
                    if under_way >= WINDOW {
                        self.settle().context(what.to_owned())?;
                        under_way = 0;
                    }
                }
                self.settle().context(what.to_owned())?;
            }
        }
        Ok(())
    }
}
