//! Making the sockets, the allocations and the channels.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use dial::{DialError, Dialer};
use turn::attribute::Family;
use turn::client::{Allocate, Request};

use super::{CLOSING, Field, Lab, SECOND, first_tag, keep};
use crate::control::{ControlError, Ended, Engine, EngineSettings, Kind, Outcome, Pump, Why};
use crate::cpu;
use crate::framing::Framing;
use crate::link::Link;
use crate::options::{Generator, Mode, Options, PeerSide};
use crate::plan::{Direction, Far, Flow, channel_number};
use crate::progress::Progress;
use crate::report::Setup;
use crate::server::Transport;
use crate::stamp::{FLOWS_MAX, Filler};
use crate::stream::Stream;
use crate::sys::{self, interrupted, monotonic, open_files_limit};
use crate::traffic::{Egress, Ingress};
use crate::xdp::{self, Xdp};

/// Requests of one allocation under way at once.
const EACH: usize = 8;
/// Files that a process has open beside its sockets.
const OTHER_FILES: u64 = 64;
/// Peers of one CreatePermission request.
const PERMISSION_PEERS: usize = 16;
/// Longest setup.
const SETUP_MAX: u64 = 3_600 * SECOND;

/// Why there is nothing to measure with.
#[derive(Debug)]
pub enum SetupError {
    /// A request failed.
    Control(ControlError),
    /// Ctrl-C.
    Interrupted,
    /// This host.
    Host(anyhow::Error),
}

impl From<anyhow::Error> for SetupError {
    fn from(error: anyhow::Error) -> SetupError {
        SetupError::Host(error)
    }
}

impl From<io::Error> for SetupError {
    fn from(error: io::Error) -> SetupError {
        SetupError::Host(error.into())
    }
}

impl fmt::Display for SetupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SetupError::Control(error) => error.fmt(f),
            SetupError::Interrupted => f.write_str("ended early"),
            SetupError::Host(error) => write!(f, "{error:#}"),
        }
    }
}

impl std::error::Error for SetupError {}

/// How far the setup came, and what it made.
pub struct Established {
    /// How far.
    pub setup: Setup,
    /// All of it, or why not.
    pub lab: Result<Lab, SetupError>,
}

/// What a setup has made so far.
struct Site {
    options: Options,
    links: Vec<Arc<Link>>,
    engine: Engine,
    pump: Pump,
    setup: Setup,
}

impl Lab {
    /// Makes the sockets, the allocations and the channels, and deletes them again if that fails.
    pub fn establish(options: Options, progress: &mut Progress) -> Established {
        let started = monotonic();
        let empty = Setup { allocations: 0, channels: 0, secs: 0.0 };
        let mut site = match Site::open(options, empty.clone()) {
            Ok(site) => site,
            Err(error) => return Established { setup: empty, lab: Err(error.into()) },
        };
        let done = site.connect(progress).and_then(|()| site.allocate(progress));
        let done = done.and_then(|()| site.bind(progress)).and_then(|()| site.open_xdp());
        progress.clear();
        site.setup.secs = (monotonic() - started) as f64 / SECOND as f64;
        let setup = site.setup.clone();
        let lab = match done {
            Ok(xdp) => site.finish(xdp),
            Err(error) => {
                site.engine.abandon();
                delete_all(&mut site.engine, &mut site.pump, monotonic() + CLOSING);
                Err(error)
            }
        };
        Established { setup, lab }
    }
}

impl Site {
    fn open(options: Options, setup: Setup) -> Result<Site> {
        let shape = &options.shape;
        shape.check()?;
        xdp::preflight(&options)?;
        let flows = shape.allocations * shape.channels * 2;
        if flows > FLOWS_MAX {
            bail!("{flows} flows are more than {FLOWS_MAX}");
        }
        let own_peers = if matches!(options.peer, PeerSide::Own(_)) { shape.peers() } else { 0 };
        sys::raise_open_files();
        let (wanted, most) =
            ((shape.allocations + own_peers) as u64 + OTHER_FILES, open_files_limit());
        if wanted > most {
            bail!(
                "{} allocations and {own_peers} peers take {wanted} open files, and this process \
                 may have {most}: raise the limit (ulimit -Hn) or ask for less",
                shape.allocations
            );
        }
        let engine = Engine::new(EngineSettings {
            login: options.login.clone(),
            server: options.server,
            transport: options.transport,
            in_flight: options.in_flight,
            each: EACH,
        });
        let site = Site { links: Vec::new(), engine, pump: Pump::new()?, setup, options };
        Ok(site)
    }

    /// One link for each allocation.
    fn connect(&mut self, progress: &mut Progress) -> Result<(), SetupError> {
        let of = self.options.shape.allocations;
        for at in 0..of {
            if interrupted() {
                return Err(SetupError::Interrupted);
            }
            let link = Arc::new(connect(&self.options)?);
            let session = self.engine.add(link.clone());
            self.pump.watch(session, link.clone())?;
            self.links.push(link);
            if self.options.transport != Transport::Udp {
                progress.setup("connections", at + 1, of);
            }
        }
        Ok(())
    }

    /// The wave of Allocate requests. A 437 means that the server still remembers whoever had our
    /// port before: RFC 8656 section 7.4 wants another port then.
    fn allocate(&mut self, progress: &mut Progress) -> Result<(), SetupError> {
        let of = self.options.shape.allocations;
        let family = self.family();
        let wanted = Request::Allocate(Allocate { family, ..Allocate::default() });
        let wave = (0..of).map(|session| (session, vec![wanted.clone()]));
        self.engine.enqueue_each(wave);
        let Site { options, links, engine, pump, setup } = self;
        let mut again = 2 * of + 10;
        run(engine, pump, &mut |engine, pump, outcome| {
            let Err(error) = outcome.result else {
                setup.allocations += 1;
                progress.setup("allocations", setup.allocations, of);
                return Ok(());
            };
            if !error.is_port_taken() || again == 0 {
                return Err(SetupError::Control(error));
            }
            again -= 1;
            let link = Arc::new(connect(options)?);
            pump.forget(outcome.session);
            engine.replace(outcome.session, link.clone());
            pump.watch(outcome.session, link.clone())?;
            links[outcome.session] = link;
            engine.enqueue(outcome.session, [wanted.clone()]);
            Ok(())
        })
    }

    /// The relayed addresses' family, where it must be said: as the peers', else as the server's.
    fn family(&self) -> Option<Family> {
        let peer = match &self.options.peer {
            PeerSide::Own(Some(ip)) => *ip,
            PeerSide::Sink(sinks) => sinks[0].ip(),
            PeerSide::Own(None) | PeerSide::Relay => self.options.server.ip(),
        };
        peer.is_ipv6().then_some(Family::V6)
    }

    /// The wave of ChannelBind or CreatePermission requests.
    fn bind(&mut self, progress: &mut Progress) -> Result<(), SetupError> {
        self.open_peers()?;
        let of = self.options.shape.allocations * self.options.shape.channels;
        let wave: Vec<_> = (0..self.options.shape.allocations)
            .map(|session| (session, self.bindings(session)))
            .collect();
        self.engine.enqueue_each(wave);
        let setup = &mut self.setup;
        let channels = self.options.shape.channels;
        let mode = self.options.mode;
        run(&mut self.engine, &mut self.pump, &mut |_, _, outcome| {
            outcome.result.map_err(SetupError::Control)?;
            setup.channels += match mode {
                Mode::Channel => 1,
                Mode::Send => channels.min(PERMISSION_PEERS),
            };
            setup.channels = setup.channels.min(of);
            progress.setup("channels", setup.channels, of);
            Ok(())
        })
    }

    fn open_peers(&mut self) -> Result<()> {
        let PeerSide::Own(ip) = &self.options.peer else { return Ok(()) };
        let ip = match ip {
            Some(ip) => *ip,
            None => self.links[0].local()?.ip(),
        };
        for _ in 0..self.options.shape.peers() {
            let peer = Link::peer(SocketAddr::new(ip, 0));
            let peer = peer.with_context(|| format!("opening a peer at {ip}"))?;
            self.links.push(Arc::new(peer));
        }
        Ok(())
    }

    /// The address at the other end of a channel.
    fn far_address(&self, allocation: usize, channel: usize) -> Result<SocketAddr> {
        match (self.options.shape.far(allocation, channel), &self.options.peer) {
            (Far::Relayed(other), _) => {
                self.engine.sessions()[other].relayed.context("an allocation is gone")
            }
            (Far::Peer(peer), PeerSide::Sink(sinks)) => Ok(sink_port(sinks, peer)),
            (Far::Peer(peer), _) => Ok(self.links[self.options.shape.allocations + peer].local()?),
        }
    }

    fn bindings(&self, allocation: usize) -> Vec<Request> {
        let far = (0..self.options.shape.channels)
            .filter_map(|channel| Some((channel, self.far_address(allocation, channel).ok()?)));
        match self.options.mode {
            Mode::Channel => far
                .map(|(channel, peer)| Request::ChannelBind {
                    channel: channel_number(channel),
                    peer,
                })
                .collect(),
            Mode::Send => {
                let peers: Vec<SocketAddr> = far.map(|(_, peer)| peer).collect();
                let some = peers.chunks(PERMISSION_PEERS);
                some.map(|peers| Request::CreatePermission { peers: peers.to_vec() }).collect()
            }
        }
    }

    /// The generator that goes past the sockets, if that is the one.
    fn open_xdp(&self) -> Result<Option<Xdp>, SetupError> {
        if self.options.generator == Generator::Socket {
            return Ok(None);
        }
        let sessions = self.engine.sessions().iter();
        let relayed: Option<Vec<SocketAddr>> = sessions.map(|session| session.relayed).collect();
        let site = xdp::Site {
            options: &self.options,
            links: &self.links,
            flows: &self.options.shape.flows(),
            relayed: relayed.context("an allocation is gone")?,
        };
        Ok(Some(Xdp::open(&site)?))
    }

    /// Everything stands: what is sent and received how.
    fn finish(self, xdp: Option<Xdp>) -> Result<Lab, SetupError> {
        let flows = self.options.shape.flows();
        let mut egress = Vec::with_capacity(flows.len());
        for (at, flow) in flows.iter().enumerate().filter(|(_, flow)| flow.from < self.links.len())
        {
            egress.push(self.egress(at as u32, flow)?);
        }
        let ingress: Vec<Ingress> = flows.iter().map(|flow| self.ingress(flow)).collect();
        let mut endings = vec![Direction::ToClient; self.links.len()];
        let peers = endings.get_mut(self.options.shape.allocations..);
        peers.into_iter().flatten().for_each(|ending| *ending = Direction::ToPeer);
        for ingress in &ingress {
            if let Some(ending) = endings.get_mut(ingress.socket) {
                *ending = ingress.direction;
            }
        }
        let requests: Vec<Vec<Request>> = (0..self.options.shape.allocations)
            .map(|allocation| self.bindings(allocation))
            .collect();
        let server_pid = self
            .options
            .server_pid
            .or_else(|| cpu::listener_of(self.options.server, self.options.transport));
        let keeper = keep::Keeper::new(requests, self.engine.sessions(), monotonic());
        let Site { options, links, engine, pump, .. } = self;
        let filler = Filler::new(options.mix.longest());
        let field = Field { options, links, flows, egress, ingress, endings, filler };
        Ok(Lab { field, engine, pump, keeper, tag: first_tag(), server_pid, xdp })
    }

    fn egress(&self, number: u32, flow: &Flow) -> Result<Egress> {
        let Flow { from, direction, allocation, channel, .. } = *flow;
        if from >= self.options.shape.allocations {
            let relayed = self.engine.sessions()[allocation].relayed;
            let to = relayed.context("an allocation is gone")?.into();
            return Ok(Egress { flow: number, socket: from, to: Some(to), framing: Framing::Bare });
        }
        let framing = match self.options.mode {
            Mode::Channel => Framing::Channel {
                number: channel_number(channel),
                padded: self.options.transport != Transport::Udp,
            },
            Mode::Send => {
                // Seen from the socket that sends: between relays either may be that.
                let near = if direction == Direction::ToPeer { allocation } else { from };
                let mut transaction = [0; 12];
                transaction[..4].copy_from_slice(&number.to_be_bytes());
                Framing::send(self.far_address(near, channel)?, transaction)
            }
        };
        Ok(Egress { flow: number, socket: from, to: None, framing })
    }

    fn ingress(&self, flow: &Flow) -> Ingress {
        let at_client = flow.to < self.options.shape.allocations;
        let by_channel = at_client && self.options.mode == Mode::Channel;
        Ingress {
            socket: flow.to,
            channel: by_channel.then(|| channel_number(flow.channel).number()),
            direction: flow.direction,
        }
    }
}

impl Field {
    /// How a command to the sink behind this allocation's channel is wrapped.
    pub(super) fn command_framing(&self, (_, channel): (usize, usize)) -> Result<Framing> {
        let PeerSide::Sink(sinks) = &self.options.peer else { bail!("there is no sink") };
        Ok(match self.options.mode {
            Mode::Channel => Framing::Channel {
                number: channel_number(channel),
                padded: self.options.transport != Transport::Udp,
            },
            Mode::Send => Framing::send(sink_port(sinks, channel), [0; 12]),
        })
    }
}

/// The sink's port for this peer: the given ones in turn, then the ports above them.
pub(super) fn sink_port(sinks: &[SocketAddr], peer: usize) -> SocketAddr {
    let mut address = sinks[peer % sinks.len()];
    address.set_port(address.port().saturating_add((peer / sinks.len()) as u16));
    address
}

/// A connection to the server, with its TLS handshake done; or why there is none.
fn stream(options: &Options) -> Result<Stream, String> {
    let transport = match options.transport {
        Transport::Tls => dial::Transport::Tls,
        Transport::Tcp | Transport::Udp => dial::Transport::Tcp,
    };
    let Options { server, local, ref tls, .. } = *options;
    let dialer = Dialer { server, transport, trust: tls.clone(), local };
    let (socket, tls) = dialer.connect().map_err(|error| match error {
        DialError::Untrusted(_) => format!("{error}: --tls-ca, or --tls-insecure"),
        _ => error.to_string(),
    })?;
    Stream::new(socket, tls).map_err(|error| error.to_string())
}

/// A client's link.
pub(crate) fn connect(options: &Options) -> Result<Link, SetupError> {
    let Options { server, transport, .. } = *options;
    if transport != Transport::Udp {
        return stream(options).map(|stream| Link::Stream(Box::new(stream))).map_err(|words| {
            let (kind, why) = (Kind::Allocate, Why::Unreachable(words));
            SetupError::Control(ControlError { kind, session: 0, server, transport, why })
        });
    }
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let local = SocketAddr::new(options.local.unwrap_or(any), 0);
    let link = Link::udp(local, server);
    Ok(link.with_context(|| format!("a socket from {} to {server}", local.ip()))?)
}

/// What to do about one outcome; an error ends the setup.
type OnOutcome<'a> = dyn FnMut(&mut Engine, &mut Pump, Outcome) -> Result<(), SetupError> + 'a;

/// Runs the engine until everything has succeeded or something has failed.
fn run(
    engine: &mut Engine,
    pump: &mut Pump,
    on_outcome: &mut OnOutcome<'_>,
) -> Result<(), SetupError> {
    let mut failure = None;
    let deadline = monotonic() + SETUP_MAX;
    let ended = pump.run(engine, deadline, &mut |engine, pump, outcome| {
        failure = on_outcome(engine, pump, outcome).err();
        failure.is_none()
    });
    match (failure, ended) {
        (Some(error), _) => Err(error),
        (None, Ended::Interrupted) => Err(SetupError::Interrupted),
        (None, Ended::Deadline) => Err(anyhow::anyhow!("the setup took over an hour").into()),
        (None, Ended::Idle | Ended::Stopped) => Ok(()),
    }
}

/// Deletes whatever allocations there are; how many were confirmed, and the first failure.
pub(crate) fn delete_all(
    engine: &mut Engine,
    pump: &mut Pump,
    deadline: u64,
) -> (usize, Option<ControlError>) {
    let alive: Vec<usize> = (0..engine.sessions().len())
        .filter(|at| engine.sessions()[*at].relayed.is_some())
        .collect();
    engine.enqueue_each(alive.into_iter().map(|session| (session, vec![Request::delete()])));
    let (mut deleted, mut failure) = (0, None);
    pump.run_to_the_end(engine, deadline, &mut |_, _, outcome| {
        match outcome.result {
            Ok(()) => deleted += 1,
            Err(error) => failure = failure.take().or(Some(error)),
        }
        true
    });
    (deleted, failure)
}
