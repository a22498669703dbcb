//! The configuration: settings made into types, each checked alone and against the others.
//!
//! What only this host can tell (which addresses it has, which cores) is checked by
//! [`crate::plan`], so that a file can be checked on another machine.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use ipnet::IpNet;
use turn::credentials::Credentials;
use turn::policy::Profile;

use crate::log::LogFormat;
use crate::settings::secrets;
use crate::settings::{Given, Problem, Problems, Settings, Source};
use features::Features;
use transports::Transports;

pub mod check;
pub mod features;
pub mod parse;
#[cfg(test)]
mod tests;
mod third_party;
pub mod transports;

/// Lifetimes that allocations can have by default. A client refreshes a minute before the end, so
/// less than that would lose calls; the longest is RFC 8656's.
const LIFETIMES_SECS: RangeInclusive<usize> = 30..=3600;
/// More than 10 ms would be a busy core and nothing gained.
const BUSY_POLL_MICROS: RangeInclusive<usize> = 0..=10_000;
/// More than there can be in all: see `dataplane::lanes_max`.
const LANES: RangeInclusive<usize> = 0..=1024;
const LIFETIME_DEFAULT_SECS: u64 = 600;
/// The UDP port of STUN and TURN (RFC 8656 section 18.6, RFC 8489 section 18.8).
pub const PORT: u16 = 3478;
/// Most allocations that may be configured.
pub const ALLOCATIONS_MAX: usize = 1 << 19;
/// Most channels that may be configured.
pub const CHANNELS_MAX: usize = 1 << 20;
const TABLE_DEFAULT: usize = 65_536;
/// Characters of a wrong value that a message repeats.
const QUOTED_CHARS_MAX: usize = 60;
const REALM: &str = "turnwire";

/// A public address that peers and clients know instead of one of ours (1:1 NAT).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct External {
    /// What is told to clients.
    pub public: IpAddr,
    /// The relay address behind it; the only one of its family when left out.
    pub private: Option<IpAddr>,
}

/// How the kernel program is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum XdpMode {
    /// The best that works; sockets when nothing does.
    Auto,
    /// In the driver, or not at all.
    Native,
    /// In the kernel's generic hook, or not at all.
    Generic,
    /// Sockets only.
    Off,
}

/// Who forwards channel traffic on the fast path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum XdpForward {
    /// The kernel program.
    Kernel,
    /// The workers, by AF_XDP; the program where they have no queue.
    Workers,
}

/// Whether workers get frames by AF_XDP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfXdp {
    /// Where the driver advertises that it does not copy.
    Auto,
    /// With copies, on any driver.
    Copy,
    /// Without copies, or not at all.
    ZeroCopy,
    /// No.
    Off,
}

/// Everything `turnwire serve` can be told.
#[derive(Debug)]
pub struct Config {
    /// Addresses to listen on. Empty: the wildcards of both families, port [`PORT`].
    pub listen: Vec<Given<SocketAddr>>,
    /// Relay addresses. Empty: found on the host.
    pub relay_ips: Vec<Given<IpAddr>>,
    /// Public addresses of relay addresses.
    pub externals: Vec<Given<External>>,
    /// Ports that relayed transport addresses have.
    pub relay_ports: Given<RangeInclusive<u16>>,
    /// Realm, users with passwords of their own, and secrets of time-limited credentials.
    pub credentials: Credentials,
    /// How many users there are.
    pub users: usize,
    /// How many secrets there are.
    pub auth_secrets: usize,
    /// Which addresses may be peers.
    pub peer_policy: Profile,
    /// Ranges that may be peers whatever the policy says.
    pub allow_peers: Vec<Given<IpNet>>,
    /// Ranges that may not be peers whatever the policy says.
    pub deny_peers: Vec<Given<IpNet>>,
    /// Interfaces that carry the fast path.
    pub xdp: Vec<Given<String>>,
    /// How the kernel program is attached.
    pub xdp_mode: Given<XdpMode>,
    /// Who forwards channel traffic on the fast path.
    pub xdp_forward: Given<XdpForward>,
    /// Whether workers get frames by AF_XDP.
    pub af_xdp: Given<AfXdp>,
    /// One pinned worker for each. Empty: every core this process may use.
    pub cores: Vec<Given<usize>>,
    /// How long a worker polls its devices before it sleeps; zero for not at all.
    pub busy_poll: Duration,
    /// Sockets of each worker on each listening address beside its listener; `None` for the usual
    /// number.
    pub lanes: Option<usize>,
    /// Allocations at once, in all.
    pub max_allocations: Given<usize>,
    /// Channels at once, in all.
    pub max_channels: Given<usize>,
    /// Allocations at once for one user; `None` for as many as there are.
    pub user_quota: Option<Given<usize>>,
    /// Lifetime of an allocation unless its client asks for more. RFC 8656 section 3.2 has 600 s;
    /// less makes clients refresh more often, and lost ones end sooner.
    pub allocation_lifetime: Duration,
    /// How clients reach the relay beside UDP.
    pub transports: Transports,
    /// What the server does beside plain relaying.
    pub features: Features,
    /// Where the admin server listens; `None` for nowhere.
    pub admin: Option<Given<SocketAddr>>,
    /// How log lines are written.
    pub log_format: LogFormat,
    /// What should be told, though it stops nothing.
    pub notes: Vec<String>,
}

impl Config {
    /// Makes a configuration of `settings`, reading the secret files that they name.
    ///
    /// # Errors
    /// Every mistake that was found, with its place.
    pub fn new(settings: &Settings) -> Result<Config, Problems> {
        let mut reader = Reader { settings, problems: Vec::new(), notes: Vec::new() };
        let config = reader.config();
        let mut problems = reader.problems;
        if problems.is_empty() {
            check::together(&config, &mut problems);
            problems.dedup();
        }
        if problems.is_empty() { Ok(config) } else { Err(Problems(problems)) }
    }

    /// The listening addresses, the default included.
    pub fn listen_or_default(&self) -> Vec<Given<SocketAddr>> {
        if !self.listen.is_empty() {
            return self.listen.clone();
        }
        let wildcard = |ip: IpAddr| Given {
            value: SocketAddr::new(ip, PORT),
            source: Source::Default("listen"),
        };
        vec![wildcard(Ipv4Addr::UNSPECIFIED.into()), wildcard(Ipv6Addr::UNSPECIFIED.into())]
    }
}

struct Reader<'s> {
    settings: &'s Settings,
    problems: Vec<Problem>,
    notes: Vec<String>,
}

impl Reader<'_> {
    fn config(&mut self) -> Config {
        let allocations = |text: &str| parse::number(text, &(1..=ALLOCATIONS_MAX));
        let channels = |text: &str| parse::number(text, &(1..=CHANNELS_MAX));
        let (credentials, users, auth_secrets) = self.credentials();
        let admin_default = SocketAddr::from((Ipv4Addr::LOCALHOST, 9641));
        Config {
            listen: self.all("listen", parse::listen),
            relay_ips: self.all("relay-ip", parse::relay_ip),
            externals: self.all("external-ip", parse::external),
            relay_ports: self
                .one("relay-ports", parse::relay_ports)
                .unwrap_or_else(|| default(49152..=65535, "relay-ports")),
            credentials,
            users,
            auth_secrets,
            peer_policy: self.value("peer-policy", parse::peer_policy, || Profile::Public),
            allow_peers: self.all("allow-peer", parse::cidr),
            deny_peers: self.all("deny-peer", parse::cidr),
            xdp: self.all("xdp", parse::interface),
            xdp_mode: self
                .one("xdp-mode", parse::xdp_mode)
                .unwrap_or_else(|| default(XdpMode::Auto, "xdp-mode")),
            xdp_forward: self
                .one("xdp-forward", parse::xdp_forward)
                .unwrap_or_else(|| default(XdpForward::Kernel, "xdp-forward")),
            af_xdp: self
                .one("af-xdp", parse::af_xdp)
                .unwrap_or_else(|| default(AfXdp::Auto, "af-xdp")),
            cores: self
                .all("cores", parse::cores)
                .into_iter()
                .flat_map(|given| {
                    let source = given.source;
                    let each = move |value| Given { value, source: source.clone() };
                    given.value.into_iter().map(each)
                })
                .collect(),
            busy_poll: Duration::from_micros(
                self.one("busy-poll", |text| parse::number(text, &BUSY_POLL_MICROS))
                    .map_or(0, |given| given.value as u64),
            ),
            lanes: self.one("lanes", |text| parse::number(text, &LANES)).map(|given| given.value),
            max_allocations: self
                .one("max-allocations", allocations)
                .unwrap_or_else(|| default(TABLE_DEFAULT, "max-allocations")),
            max_channels: self
                .one("max-channels", channels)
                .unwrap_or_else(|| default(TABLE_DEFAULT, "max-channels")),
            user_quota: self.one("user-quota", allocations),
            allocation_lifetime: self.seconds(
                "allocation-lifetime",
                &LIFETIMES_SECS,
                LIFETIME_DEFAULT_SECS,
            ),
            transports: self.transports(),
            features: self.features(),
            admin: match self.one("admin", parse::admin) {
                None => Some(default(admin_default, "admin")),
                Some(Given { value: None, .. }) => None,
                Some(Given { value: Some(value), source }) => Some(Given { value, source }),
            },
            log_format: self.value("log-format", parse::log_format, || LogFormat::Text),
            notes: std::mem::take(&mut self.notes),
        }
    }

    /// Every value of a key that parses; the others become problems.
    fn all<T>(&mut self, key: &str, parse: impl Fn(&str) -> Result<T, String>) -> Vec<Given<T>> {
        let mut values = Vec::new();
        for given in self.settings.all(key) {
            match parse(&given.value) {
                Ok(value) => values.push(Given { value, source: given.source.clone() }),
                Err(wrong) => {
                    let message = format!("{} {wrong}", quoted(&given.value));
                    self.problems.push(Problem::new(&given.source, message));
                }
            }
        }
        values
    }

    fn one<T>(&mut self, key: &str, parse: impl Fn(&str) -> Result<T, String>) -> Option<Given<T>> {
        self.all(key, parse).pop()
    }

    fn value<T>(
        &mut self,
        key: &str,
        parse: impl Fn(&str) -> Result<T, String>,
        default: impl Fn() -> T,
    ) -> T {
        self.one(key, parse).map_or_else(default, |given| given.value)
    }

    /// Whether a switch is on; off unless given.
    fn switch(&mut self, key: &str) -> bool {
        self.value(key, parse::switch, || false)
    }

    /// A time in whole seconds.
    fn seconds(&mut self, key: &str, range: &RangeInclusive<usize>, default: u64) -> Duration {
        let secs = self.one(key, |text| parse::number(text, range));
        Duration::from_secs(secs.map_or(default, |given| given.value as u64))
    }

    /// The realm with its users and secrets, and how many there are of either.
    fn credentials(&mut self) -> (Credentials, usize, usize) {
        let mut credentials = self
            .one("realm", parse::realm)
            .map_or_else(|| parse::realm(REALM), |given| Ok(given.value))
            .unwrap_or_else(|wrong| unreachable!("the default realm is one, but: {wrong}"));
        let users = self.secret_values("user", "user-file");
        for given in &users {
            if let Err(wrong) = credentials.add_user_line(&given.value) {
                self.problems.push(Problem::new(&given.source, wrong.to_string()));
            }
        }
        let secrets = self.secret_values("auth-secret", "auth-secret-file");
        for (index, given) in secrets.iter().enumerate() {
            if secrets[..index].iter().any(|other| other.value == given.value) {
                self.problems.push(Problem::new(&given.source, "this secret is given twice"));
            } else if let Err(wrong) = credentials.add_rest_secret(given.value.as_bytes()) {
                self.problems.push(Problem::new(&given.source, wrong.to_string()));
            }
        }
        if let Some(third_party) = self.third_party() {
            credentials.set_third_party(third_party);
        }
        (credentials, users.len(), secrets.len())
    }

    /// The values of `key`, and the lines of the files that `file_key` names.
    fn secret_values(&mut self, key: &str, file_key: &str) -> Vec<Given<String>> {
        let mut values = self.settings.all(key).to_vec();
        for file in self.settings.all(file_key) {
            match secrets::read(file) {
                Ok((entries, note)) => {
                    values.extend(entries);
                    self.notes.extend(note);
                }
                Err(problem) => self.problems.push(problem),
            }
        }
        values
    }
}

/// A value as a message repeats it: in quotes, and no more of it than a person reads.
fn quoted(value: &str) -> String {
    match value.char_indices().nth(QUOTED_CHARS_MAX) {
        Some((end, _)) => format!("\"{}...\"", value[..end].escape_debug()),
        None => format!("\"{}\"", value.escape_debug()),
    }
}

fn default<T>(value: T, key: &'static str) -> Given<T> {
    Given { value, source: Source::Default(key) }
}
