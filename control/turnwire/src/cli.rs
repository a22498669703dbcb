//! The command line.
//!
//! Values are taken as text and parsed by [`crate::config`], so that a mistake in a flag and one in
//! the file are told in the same words.

use std::path::PathBuf;

use clap::{Arg, Args, Parser, Subcommand};

use crate::probe::ProbeArgs;
use crate::settings::{Settings, Source, find_key};
use crate::top::TopArgs;

const SECRETS_HELP: &str = "\
Secrets:
  Flags appear in process lists. Give users and secrets in files (--user-file, --auth-secret-file,
  the configuration) or in the environment instead: TURNWIRE_USER, TURNWIRE_AUTH_SECRET and
  TURNWIRE_OAUTH_KEY, several on several lines. A flag replaces the environment, which replaces the
  configuration file.

Signals:
  SIGHUP    reads configuration, users, secrets, peer rules and certificate again; on a mistake the
            old ones stay. What takes a restart is named in the log. So does POST /reload.
  SIGUSR1   drains: no new allocations, and ends with the last one or after --drain-timeout. So
            does POST /drain.
  SIGTERM, SIGINT   end at once, also while draining.

Environment:
  TURNWIRE_LOG  what is logged: error, warn, info (default), debug, trace";

/// A TURN relay (RFC 8656) that forwards inside the NIC driver.
#[derive(Debug, Parser)]
#[command(name = "turnwire", version, arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the program does.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Relay. With no flags: sockets only, and a made-up user that is printed once
    #[command(after_help = SECRETS_HELP, mut_args(negative))]
    Serve(Box<ServeArgs>),
    /// Check a configuration file and say what it would do on this host
    CheckConfig {
        /// The file, in TOML; its keys are the flags of serve
        file: PathBuf,
    },
    /// Make time-limited credentials and print them with an iceServers block
    #[command(mut_args(negative))]
    Credentials(CredentialsArgs),
    /// Ask a server, and say what it and the NATs on the way do
    #[command(mut_args(negative))]
    Probe(ProbeArgs),
    /// Show what a running relay does, as rates: by tier, worker and core, with reasons
    #[command(after_help = crate::top::HELP, mut_args(negative))]
    Top(TopArgs),
}

/// A negative number is taken for the flag's value, so that what is said about it names the flag.
fn negative(flag: Arg) -> Arg {
    let takes_value = flag.get_action().takes_values();
    flag.allow_negative_numbers(takes_value)
}

/// The flags of `turnwire serve`. Each but `--config` is a key of the file too.
#[derive(Debug, Clone, Default, Args)]
pub struct ServeArgs {
    /// Configuration in TOML; each flag is a key of it, and flags replace what it says
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Address to listen on; repeatable. Port 3478 of every address unless given.
    #[arg(
        long,
        value_name = "ADDR:PORT",
        help = "Address to listen on; repeatable [default: 0.0.0.0:3478 and [::]:3478]"
    )]
    pub listen: Vec<String>,
    /// Listen by UDP only, not by TCP too
    #[arg(long, value_name = "true|false", num_args = 0..=1, require_equals = true,
          default_missing_value = "true")]
    pub no_tcp: Option<String>,
    /// Certificate chain in PEM, which opens TLS and DTLS
    #[arg(long, value_name = "FILE")]
    pub cert: Option<String>,
    /// Private key of the certificate, in PEM
    #[arg(long, value_name = "FILE")]
    pub key: Option<String>,
    /// Address to listen on by TLS and DTLS; repeatable [default: port 5349 of each --listen address]
    #[arg(long, value_name = "ADDR:PORT")]
    pub tls_listen: Vec<String>,
    /// Load balancers that announce TCP clients by PROXY protocol v2; repeatable
    #[arg(long, value_name = "CIDR")]
    pub proxy_protocol_from: Vec<String>,
    /// Address of this host to relay from; repeatable [default: found, one of each family]
    #[arg(long, value_name = "ADDR")]
    pub relay_ip: Vec<String>,
    /// Public address that a 1:1 NAT maps to a relay address; repeatable
    #[arg(long, value_name = "PUB[=PRIV]")]
    pub external_ip: Vec<String>,
    /// Ports to relay from [default: 49152-65535]
    #[arg(long, value_name = "LO-HI")]
    pub relay_ports: Option<String>,
    /// Realm of the users [default: turnwire]
    #[arg(long, value_name = "NAME")]
    pub realm: Option<String>,
    /// User with a password; repeatable
    #[arg(long, value_name = "NAME:PASSWORD")]
    pub user: Vec<String>,
    /// File with a NAME:PASSWORD on each line; repeatable
    #[arg(long, value_name = "FILE")]
    pub user_file: Vec<String>,
    /// Secret that time-limited credentials are made of; repeatable, for rotation
    #[arg(long, value_name = "SECRET")]
    pub auth_secret: Vec<String>,
    /// File with a secret on each line; repeatable
    #[arg(long, value_name = "FILE")]
    pub auth_secret_file: Vec<String>,
    /// Key of third-party tokens (RFC 7635), shared with the authorization server; repeatable
    #[arg(long, value_name = "KID:BASE64")]
    pub oauth_key: Vec<String>,
    /// File with a KID:BASE64 on each line; repeatable
    #[arg(long, value_name = "FILE")]
    pub oauth_key_file: Vec<String>,
    /// Name of this server, for which tokens are sealed
    #[arg(long, value_name = "NAME")]
    pub oauth_server_name: Option<String>,
    /// Secret that the nonces of a fleet are made of, 32 characters or more
    #[arg(long, value_name = "FILE")]
    pub nonce_key_file: Option<String>,
    /// How often the key of nonces is exchanged [default: 86400]
    #[arg(long, value_name = "SECONDS")]
    pub nonce_rotation: Option<String>,
    /// Addresses that may be peers: public, or lan for private ranges too [default: public]
    #[arg(long, value_name = "public|lan")]
    pub peer_policy: Option<String>,
    /// Range that may be a peer whatever the policy; the most specific range decides; repeatable
    #[arg(long, value_name = "CIDR")]
    pub allow_peer: Vec<String>,
    /// Range that may not be a peer; wins over the same range allowed; repeatable
    #[arg(long, value_name = "CIDR")]
    pub deny_peer: Vec<String>,
    /// Relay TCP between clients and peers (RFC 6062)
    #[arg(long, value_name = "true|false", num_args = 0..=1, require_equals = true,
          default_missing_value = "true")]
    pub tcp_relay: Option<String>,
    /// Let clients keep their allocation when their address changes (RFC 8016)
    #[arg(long, value_name = "true|false", num_args = 0..=1, require_equals = true,
          default_missing_value = "true")]
    pub mobility: Option<String>,
    /// Second address and port for NAT behaviour discovery (RFC 5780); one for each family
    #[arg(long, value_name = "ADDR:PORT")]
    pub nat_discovery: Vec<String>,
    /// Where clients are sent while this server drains; one for each family
    #[arg(long, value_name = "ADDR:PORT")]
    pub alternate_server: Vec<String>,
    /// Name in the certificate of the alternate server
    #[arg(long, value_name = "NAME")]
    pub alternate_domain: Option<String>,
    /// Send every new client to the alternate server, not only while draining
    #[arg(long, value_name = "true|false", num_args = 0..=1, require_equals = true,
          default_missing_value = "true")]
    pub redirect: Option<String>,
    /// What SOFTWARE tells clients [default: nothing]
    #[arg(long, value_name = "TEXT")]
    pub software: Option<String>,
    /// Interfaces that carry the fast path
    #[arg(long, value_name = "IFACE[,IFACE...]")]
    pub xdp: Vec<String>,
    /// How the fast path is attached; auto falls back to sockets [default: auto]
    #[arg(long, value_name = "auto|native|generic|off")]
    pub xdp_mode: Option<String>,
    /// Who forwards channel traffic on the fast path: the kernel program, or the workers by AF_XDP
    /// [default: kernel]
    #[arg(long, value_name = "kernel|workers")]
    pub xdp_forward: Option<String>,
    /// What the fast path does not forward goes to the workers by AF_XDP, past the host's stack and
    /// packet filter; auto: where the driver does it without copies and loses nothing [default: auto]
    #[arg(long, value_name = "auto|copy|zero-copy|off")]
    pub af_xdp: Option<String>,
    /// Cores with a worker each [default: all that this process may use]
    #[arg(long, value_name = "LIST")]
    pub cores: Vec<String>,
    /// Microseconds that a worker without work polls its network devices before it sleeps: less
    /// latency for more CPU time; some kernels ask for CAP_NET_ADMIN [default: 0]
    #[arg(long, value_name = "MICROSECONDS")]
    pub busy_poll: Option<String>,
    /// Sockets that a worker keeps on each listening address beside its listener, to spread clients over
    /// while it is behind; 0 for none [default: 128]
    #[arg(long, value_name = "N")]
    pub lanes: Option<String>,
    /// Allocations at once [default: 65536]
    #[arg(long, value_name = "N")]
    pub max_allocations: Option<String>,
    /// Channels at once [default: 65536]
    #[arg(long, value_name = "N")]
    pub max_channels: Option<String>,
    /// Allocations at once for one user [default: as many as there are]
    #[arg(long, value_name = "N")]
    pub user_quota: Option<String>,
    /// TCP and TLS connections and DTLS associations at once [default: 100000]
    #[arg(long, value_name = "N")]
    pub max_connections: Option<String>,
    /// Of these from one address, for each core [default: 20000]
    #[arg(long, value_name = "N")]
    pub max_connections_per_ip: Option<String>,
    /// Seconds that a TLS or DTLS handshake may take [default: 10]
    #[arg(long, value_name = "SECONDS")]
    pub handshake_timeout: Option<String>,
    /// Seconds that a connection without channels may be silent [default: 120]
    #[arg(long, value_name = "SECONDS")]
    pub idle_timeout: Option<String>,
    /// TCP connections to peers at once, for --tcp-relay [default: 4096]
    #[arg(long, value_name = "N")]
    pub max_tcp_peers: Option<String>,
    /// Seconds that an allocation lasts unless its client asks for more [default: 600]
    #[arg(long, value_name = "SECONDS")]
    pub allocation_lifetime: Option<String>,
    /// Seconds that draining may take [default: 3600]
    #[arg(long, value_name = "SECONDS")]
    pub drain_timeout: Option<String>,
    /// Where to serve /metrics, /healthz and /allocations, or off [default: 127.0.0.1:9641]
    #[arg(long, value_name = "ADDR:PORT")]
    pub admin: Option<String>,
    /// How log lines are written [default: text]
    #[arg(long, value_name = "text|json")]
    pub log_format: Option<String>,
}

impl ServeArgs {
    /// The flags that were given.
    pub fn settings(&self) -> Settings {
        let one = |value: &Option<String>| value.iter().cloned().collect::<Vec<String>>();
        let given: [(&str, Vec<String>); 48] = [
            ("listen", self.listen.clone()),
            ("no-tcp", one(&self.no_tcp)),
            ("cert", one(&self.cert)),
            ("key", one(&self.key)),
            ("tls-listen", self.tls_listen.clone()),
            ("proxy-protocol-from", self.proxy_protocol_from.clone()),
            ("relay-ip", self.relay_ip.clone()),
            ("external-ip", self.external_ip.clone()),
            ("relay-ports", one(&self.relay_ports)),
            ("realm", one(&self.realm)),
            ("user", self.user.clone()),
            ("user-file", self.user_file.clone()),
            ("auth-secret", self.auth_secret.clone()),
            ("auth-secret-file", self.auth_secret_file.clone()),
            ("oauth-key", self.oauth_key.clone()),
            ("oauth-key-file", self.oauth_key_file.clone()),
            ("oauth-server-name", one(&self.oauth_server_name)),
            ("nonce-key-file", one(&self.nonce_key_file)),
            ("nonce-rotation", one(&self.nonce_rotation)),
            ("peer-policy", one(&self.peer_policy)),
            ("allow-peer", self.allow_peer.clone()),
            ("deny-peer", self.deny_peer.clone()),
            ("tcp-relay", one(&self.tcp_relay)),
            ("mobility", one(&self.mobility)),
            ("nat-discovery", self.nat_discovery.clone()),
            ("alternate-server", self.alternate_server.clone()),
            ("alternate-domain", one(&self.alternate_domain)),
            ("redirect", one(&self.redirect)),
            ("software", one(&self.software)),
            ("xdp", self.xdp.clone()),
            ("xdp-mode", one(&self.xdp_mode)),
            ("xdp-forward", one(&self.xdp_forward)),
            ("af-xdp", one(&self.af_xdp)),
            ("cores", self.cores.clone()),
            ("busy-poll", one(&self.busy_poll)),
            ("lanes", one(&self.lanes)),
            ("max-allocations", one(&self.max_allocations)),
            ("max-channels", one(&self.max_channels)),
            ("user-quota", one(&self.user_quota)),
            ("max-connections", one(&self.max_connections)),
            ("max-connections-per-ip", one(&self.max_connections_per_ip)),
            ("handshake-timeout", one(&self.handshake_timeout)),
            ("idle-timeout", one(&self.idle_timeout)),
            ("max-tcp-peers", one(&self.max_tcp_peers)),
            ("allocation-lifetime", one(&self.allocation_lifetime)),
            ("drain-timeout", one(&self.drain_timeout)),
            ("admin", one(&self.admin)),
            ("log-format", one(&self.log_format)),
        ];
        let mut settings = Settings::default();
        for (name, values) in given {
            let Some(key) = find_key(name) else { continue };
            for value in values {
                settings.add(key, value, Source::Flag(key.name));
            }
        }
        settings
    }
}

/// The flags of `turnwire credentials`.
#[derive(Debug, Args)]
pub struct CredentialsArgs {
    /// The server's secret; TURNWIRE_AUTH_SECRET instead keeps it out of process lists
    #[arg(long, value_name = "SECRET")]
    pub auth_secret: Option<String>,
    /// File whose first entry is the server's secret
    #[arg(long, value_name = "FILE", conflicts_with = "auth_secret")]
    pub auth_secret_file: Option<String>,
    /// Name of the user, for logs and quotas
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,
    /// How long they are valid
    #[arg(long, value_name = "SECONDS", default_value_t = 86_400,
          value_parser = clap::value_parser!(u64).range(1..=31_536_000))]
    pub ttl: u64,
    /// The server in the iceServers block [default: an address of this host]
    #[arg(long, value_name = "HOST[:PORT]")]
    pub server: Option<String>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::settings::KEYS;

    #[test]
    fn every_flag_of_serve_is_a_key_and_every_key_a_flag() {
        // given
        let command = Cli::command();
        let serve = command.find_subcommand("serve").expect("serve");
        // when
        let flags: Vec<&str> = serve
            .get_arguments()
            .filter_map(clap::Arg::get_long)
            .filter(|&flag| flag != "config" && flag != "help")
            .collect();
        // then
        let keys: Vec<&str> = KEYS.iter().map(|key| key.name).collect();
        assert_eq!(flags, keys);
    }

    #[test]
    fn every_flag_reaches_the_settings() {
        // given
        let mut line = vec!["turnwire".to_owned(), "serve".to_owned()];
        for key in KEYS {
            line.push(format!("--{}=value of {}", key.name, key.name));
        }
        // when
        let Command::Serve(args) = Cli::parse_from(line).command else { panic!("serve") };
        let settings = args.settings();
        // then
        for key in KEYS {
            let given = settings.one(key.name).expect(key.name);
            assert_eq!(given.value, format!("value of {}", key.name));
            assert_eq!(given.source, Source::Flag(key.name));
        }
    }

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
