//! A UDP proxy in front of a server that mistreats ChannelData on its way there and counts what it
//! did. STUN passes untouched.

use std::collections::HashMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use turn::Seeded;

/// What to do to how many of a thousand.
#[derive(Clone, Copy, Default)]
pub(crate) struct Faults {
    pub(crate) lose: usize,
    pub(crate) repeat: usize,
    pub(crate) swap: usize,
    pub(crate) damage_filler: usize,
    pub(crate) damage_stamp: usize,
}

/// What was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Done {
    pub(crate) passed: u64,
    pub(crate) lost: u64,
    pub(crate) repeated: u64,
    pub(crate) swapped: u64,
    pub(crate) damaged: u64,
}

pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    done: Arc<Mutex<Done>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

const POLL: Duration = Duration::from_millis(10);
/// ChannelData's header and the stamp.
const STAMP_END: usize = 4 + 20;

impl Proxy {
    pub(crate) fn start(server: SocketAddr, faults: Faults, seed: u64) -> Proxy {
        println!("seed {seed}");
        let front = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        front.set_read_timeout(Some(POLL)).expect("a timeout");
        turnwire_load::sys::grow_buffers(&front);
        let address = front.local_addr().expect("an address");
        let (done, stop) =
            (Arc::new(Mutex::new(Done::default())), Arc::new(AtomicBool::new(false)));
        let (told, ended) = (done.clone(), stop.clone());
        let thread = thread::spawn(move || {
            let front = Arc::new(front);
            let mut way = Way { front, server, faults, random: Seeded::new(seed), ..Way::new() };
            way.run(&ended);
            way.stop();
            *told.lock().expect("a count") = way.done;
        });
        Proxy { address, done, stop, thread: Some(thread) }
    }

    /// Ends it; what it did.
    pub(crate) fn done(mut self) -> Done {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().expect("running").join().expect("no panic");
        *self.done.lock().expect("a count")
    }
}

struct Way {
    front: Arc<UdpSocket>,
    server: SocketAddr,
    faults: Faults,
    random: Seeded,
    /// A socket to the server for each client, and the thread that carries answers back.
    clients: HashMap<SocketAddr, (UdpSocket, JoinHandle<()>)>,
    /// Held back until the client's next datagram has passed.
    held: HashMap<SocketAddr, Vec<u8>>,
    done: Done,
    over: Arc<AtomicBool>,
}

impl Way {
    fn new() -> Way {
        let front = Arc::new(UdpSocket::bind("127.0.0.1:0").expect("a socket"));
        Way {
            front,
            server: SocketAddr::from(([0; 4], 0)),
            faults: Faults::default(),
            random: Seeded::new(0),
            clients: HashMap::new(),
            held: HashMap::new(),
            done: Done::default(),
            over: Arc::default(),
        }
    }

    fn run(&mut self, stop: &AtomicBool) {
        let mut buffer = vec![0; 65_536];
        while !stop.load(Ordering::Relaxed) {
            let Ok((len, client)) = self.front.recv_from(&mut buffer) else { continue };
            self.open(client);
            if (0x40..0x50).contains(&buffer[0]) {
                self.mistreat(client, buffer[..len].to_vec());
            } else {
                self.pass(client, &buffer[..len]);
            }
        }
    }

    fn stop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        for (_, (_, thread)) in self.clients.drain() {
            thread.join().expect("no panic");
        }
    }

    fn open(&mut self, client: SocketAddr) {
        let (front, server, over) = (self.front.clone(), self.server, self.over.clone());
        self.clients.entry(client).or_insert_with(|| {
            let back = UdpSocket::bind("127.0.0.1:0").expect("a socket");
            turnwire_load::sys::grow_buffers(&back);
            back.connect(server).expect("a route");
            back.set_read_timeout(Some(POLL)).expect("a timeout");
            let own = back.try_clone().expect("a descriptor");
            let thread = thread::spawn(move || {
                let mut buffer = vec![0; 65_536];
                while !over.load(Ordering::Relaxed) {
                    if let Ok(len) = own.recv(&mut buffer) {
                        let _ = front.send_to(&buffer[..len], client);
                    }
                }
            });
            (back, thread)
        });
    }

    fn pass(&self, client: SocketAddr, bytes: &[u8]) {
        let _ = self.clients[&client].0.send(bytes);
    }

    fn mistreat(&mut self, client: SocketAddr, mut bytes: Vec<u8>) {
        let Faults { lose, repeat, swap, damage_filler, damage_stamp } = self.faults;
        let draw = self.random.below(1_000);
        let limits = [lose, repeat, swap, damage_filler, damage_stamp];
        let mut most = 0;
        let fate = limits.iter().position(|share| {
            most += share;
            draw < most
        });
        match fate {
            Some(0) => {
                self.done.lost += 1;
                return;
            }
            Some(1) => {
                self.done.repeated += 1;
                self.pass(client, &bytes);
            }
            Some(2) if !self.held.contains_key(&client) => {
                self.done.swapped += 1;
                self.held.insert(client, bytes);
                return;
            }
            Some(3) => {
                self.done.damaged += 1;
                let at = STAMP_END + self.random.below(bytes.len() - STAMP_END);
                bytes[at] ^= 1 << self.random.below(8);
            }
            Some(4) => {
                self.done.damaged += 1;
                bytes[4 + self.random.below(20)] ^= 1 << self.random.below(8);
            }
            _ => {}
        }
        self.done.passed += 1;
        self.pass(client, &bytes);
        // Only behind a datagram that itself arrives intact is the held one surely late.
        if !matches!(fate, Some(3 | 4))
            && let Some(held) = self.held.remove(&client)
        {
            self.done.passed += 1;
            self.pass(client, &held);
        }
    }
}
