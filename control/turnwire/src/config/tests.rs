//! The table of configurations: each bad one with the message that stops the start.

use std::path::Path;

use super::*;
use crate::settings::{file, find_key};

fn from_file(text: &str) -> Result<Config, Problems> {
    file::parse(Path::new("turnwire.toml"), text).and_then(|settings| Config::new(&settings))
}

fn from_flag(key: &str, value: &str) -> Result<Config, Problems> {
    let key = find_key(key).expect("a key");
    let mut settings = Settings::default();
    settings.add(key, value.to_owned(), Source::Flag(key.name));
    Config::new(&settings)
}

/// Each file, and what is said after `turnwire.toml:`.
const BAD: &[(&str, &str)] = &[
    ("listen = \"0.0.0.0\"", "1: listen: \"0.0.0.0\" needs a port, such as 0.0.0.0:3478"),
    ("listen = \"::\"", "1: listen: \"::\" needs a port, such as [::]:3478"),
    (
        "listen = \"localhost:3478\"",
        "1: listen: \"localhost:3478\" is not ADDR:PORT, such as 0.0.0.0:3478 or [::]:3478",
    ),
    (
        "listen = \"::1:3478\"",
        "1: listen: \"::1:3478\" is one address; if 3478 is its port, write [::1]:3478",
    ),
    (
        "listen = \"[::ffff:1.2.3.4]:1\"",
        "1: listen: \"[::ffff:1.2.3.4]:1\" is IPv4 in disguise; write it as IPv4",
    ),
    ("listen = \"224.0.0.1:1\"", "1: listen: \"224.0.0.1:1\" is not an address of one host"),
    ("listen = [\"0.0.0.0:1\",\n\"0.0.0.0:1\"]", "2: listen: 0.0.0.0:1 is given twice"),
    (
        "listen = \"0.0.0.0:50000\"",
        "1: listen: the listening port 50000 is one of the relay-ports 49152-65535; move one of \
         them",
    ),
    (
        "relay-ports = \"2000-4000\"",
        "1: relay-ports: the listening port 3478 is one of the relay-ports 2000-4000; move one of \
         them",
    ),
    (
        "relay-ports = \"9-1\"",
        "1: relay-ports: \"9-1\" is not LO-HI with 1024 <= LO <= HI <= 65535, such as 49152-65535",
    ),
    (
        "relay-ports = \"49152-70000\"",
        "1: relay-ports: \"49152-70000\" is not LO-HI with 1024 <= LO <= HI <= 65535, such as \
         49152-65535",
    ),
    (
        "relay-ip = \"0.0.0.0\"",
        "1: relay-ip: \"0.0.0.0\" stands for every address; name one of this host",
    ),
    (
        "relay-ip = \"192.0.2.1:80\"",
        "1: relay-ip: \"192.0.2.1:80\" has a port; give the address alone (ports are relay-ports)",
    ),
    ("relay-ip = \"eth0\"", "1: relay-ip: \"eth0\" is not an IP address, such as 198.51.100.7"),
    (
        "relay-ip = \"::ffff:1.2.3.4\"",
        "1: relay-ip: \"::ffff:1.2.3.4\" is IPv4 in disguise; write it as IPv4",
    ),
    (
        "relay-ip = \"fe80::1\"",
        "1: relay-ip: \"fe80::1\" is link-local, which peers elsewhere cannot reach",
    ),
    (
        "external-ip = \"host=10.0.0.1\"",
        "1: external-ip: \"host=10.0.0.1\" is not PUB or PUB=PRIV, such as 198.51.100.7=10.0.0.7",
    ),
    (
        "external-ip = \"1.2.3.4=fd00::1\"",
        "1: external-ip: \"1.2.3.4=fd00::1\" pairs addresses of two families",
    ),
    (
        "relay-ip = \"10.0.0.7\"\nexternal-ip = \"1.2.3.4=10.0.0.8\"",
        "2: external-ip: 10.0.0.8 is not a relay-ip; those of its family: 10.0.0.7",
    ),
    (
        "relay-ip = \"10.0.0.7\"\nexternal-ip = \"2001:4860::1\"",
        "2: external-ip: 2001:4860::1 has no IPv6 relay-ip behind it; add --relay-ip with the \
         address of this host that 2001:4860::1 leads to",
    ),
    (
        "relay-ip = [\"10.0.0.7\", \"10.0.0.8\"]\nexternal-ip = \"1.2.3.4\"",
        "2: external-ip: 1.2.3.4 could stand before each of 10.0.0.7, 10.0.0.8; write \
         1.2.3.4=10.0.0.7",
    ),
    (
        "relay-ip = \"10.0.0.7\"\nexternal-ip = [\"1.2.3.4\",\n \"1.2.3.5\"]",
        "3: external-ip: 10.0.0.7 already stands behind 1.2.3.4",
    ),
    (
        "realm = \"\"",
        "1: realm: \"\" is not a realm: give a name, such as example.org, without quotes, \
         backslashes or control characters",
    ),
    ("user = \"alice\"", "1: user: a user is written NAME:PASSWORD, neither of them empty"),
    ("user = \"alice:\"", "1: user: a user is written NAME:PASSWORD, neither of them empty"),
    ("user = [\"a:one\", \"a:two\"]", "1: user: there are two users of the name \"a\""),
    ("auth-secret = [\"s\", \"s\"]", "1: auth-secret: this secret is given twice"),
    (
        "user-file = \"/nonexistent/users\"",
        "1: user-file: /nonexistent/users cannot be read: No such file or directory (os error 2)",
    ),
    ("peer-policy = \"open\"", "1: peer-policy: \"open\" is neither public nor lan"),
    (
        "allow-peer = \"10.0.0.1/8\"",
        "1: allow-peer: \"10.0.0.1/8\" has bits beyond its prefix; did you mean 10.0.0.0/8?",
    ),
    (
        "deny-peer = \"10.0.0.0/33\"",
        "1: deny-peer: \"10.0.0.0/33\" is not a range of addresses, such as 10.20.0.0/16",
    ),
    (
        "allow-peer = \"10.1.0.0/16\"\ndeny-peer = \"10.1.0.0/16\"",
        "1: allow-peer: 10.1.0.0/16 is in deny-peer too; remove one of them",
    ),
    ("xdp = \"a/b\"", "1: xdp: \"a/b\" is not an interface's name, such as eth0"),
    ("xdp = \"eth0,eth0\"", "1: xdp: eth0 is given twice"),
    ("busy-poll = 10001", "1: busy-poll: \"10001\" is not a whole number from 0 to 10000"),
    ("lanes = 1025", "1: lanes: \"1025\" is not a whole number from 0 to 1024"),
    ("xdp-mode = \"fast\"", "1: xdp-mode: \"fast\" is none of auto, native, generic and off"),
    ("xdp-forward = \"me\"", "1: xdp-forward: \"me\" is neither kernel nor workers"),
    ("af-xdp = \"on\"", "1: af-xdp: \"on\" is none of auto, copy, zero-copy and off"),
    (
        "af-xdp = \"copy\"",
        "1: af-xdp: \"copy\" needs the kernel program: add --xdp IFACE without --xdp-mode off, or \
         leave af-xdp out",
    ),
    (
        "xdp-forward = \"workers\"",
        "1: xdp-forward: \"workers\" needs the kernel program: add --xdp IFACE without --xdp-mode \
         off, or leave xdp-forward out",
    ),
    (
        "xdp = \"eth0\"\naf-xdp = \"off\"\nxdp-forward = \"workers\"",
        "3: xdp-forward: \"workers\" needs AF_XDP, which is off: leave one of the two out",
    ),
    (
        "xdp-mode = \"native\"",
        "1: xdp-mode: \"native\" needs the interfaces that carry the fast path: add --xdp IFACE, \
         or leave xdp-mode out",
    ),
    ("cores = \"0,x\"", "1: cores: \"x\" is not a list of cores, such as 0,2-3"),
    ("cores = \"0-2,1\"", "1: cores: 1 is given twice"),
    ("max-allocations = 0", "1: max-allocations: \"0\" is not a whole number from 1 to 524288"),
    (
        "max-channels = \"many\"",
        "1: max-channels: \"many\" is not a whole number from 1 to 1048576",
    ),
    (
        "allocation-lifetime = 29",
        "1: allocation-lifetime: \"29\" is not a whole number from 30 to 3600",
    ),
    (
        "max-allocations = 10\nuser-quota = 20",
        "2: user-quota: \"20\" is more than max-allocations, which is 10",
    ),
    (
        "max-connections = 10\nmax-connections-per-ip = 20",
        "2: max-connections-per-ip: \"20\" is more than max-connections, which is 10",
    ),
    (
        "admin = \"9641\"",
        "1: admin: \"9641\" is neither ADDR:PORT, such as 127.0.0.1:9641, nor off",
    ),
    ("log-format = \"xml\"", "1: log-format: \"xml\" is neither text nor json"),
];

#[test]
fn each_bad_value_is_told_with_its_line_key_and_what_would_be_right() {
    for (text, message) in BAD {
        match from_file(text) {
            Ok(_) => panic!("{text} was taken"),
            Err(problems) => {
                assert_eq!(problems.to_string(), format!("turnwire.toml:{message}"), "{text}");
            }
        }
    }
}

#[test]
fn a_bad_flag_is_told_by_the_flags_name() {
    for (key, value, message) in [
        (
            "relay-ports",
            "x",
            "--relay-ports: \"x\" is not LO-HI with 1024 <= LO <= HI <= 65535, such as 49152-65535",
        ),
        ("user", "hunter2", "--user: a user is written NAME:PASSWORD, neither of them empty"),
        (
            "xdp-mode",
            "generic",
            "--xdp-mode: \"generic\" needs the interfaces that carry the fast path: add \
             --xdp IFACE, or leave xdp-mode out",
        ),
    ] {
        let problems = from_flag(key, value).expect_err("a problem");
        assert_eq!(problems.to_string(), message);
    }
}

#[test]
fn settings_that_need_another_say_which() {
    for (text, message) in [
        ("cert = \"c.pem\"", ":1: cert: a certificate needs its private key: add --key FILE"),
        ("key = \"k.pem\"", ":1: key: a private key needs its certificate: add --cert FILE"),
        (
            "tls-listen = \"127.0.0.1:1\"",
            ":1: tls-listen: TLS needs a certificate: add --cert FILE and --key FILE",
        ),
        (
            "cert = \"/nowhere/c.pem\"\nkey = \"k.pem\"",
            ":1: cert: cannot read /nowhere/c.pem: No such file or directory (os error 2)",
        ),
        (
            "redirect = true",
            ":1: redirect: needs the server that clients are sent to: add --alternate-server \
             ADDR:PORT",
        ),
        (
            "alternate-server = [\"192.0.2.1:1\", \"192.0.2.2:1\"]",
            ":1: alternate-server: 192.0.2.2:1 is the second of its family, after 192.0.2.1:1: \
             one of each is taken",
        ),
        (
            "oauth-server-name = \"a\"",
            ":1: oauth-server-name: tokens need a key that opens them: add --oauth-key-file",
        ),
        (
            "oauth-server-name = \"a\"\noauth-key = \"north:hunter2\"",
            ":2: oauth-key: a key is written KID:BASE64, of 16 or 32 bytes",
        ),
    ] {
        let problems = from_file(text).err().map(|problems| problems.to_string());
        assert_eq!(problems, Some(format!("turnwire.toml{message}")), "{text}");
    }
}

#[test]
fn every_mistake_of_a_file_is_told_at_once() {
    let problems = from_file("listen = \"x\"\nrealm = \"\"\ncores = \"y\"\n").expect_err("bad");
    assert_eq!(problems.0.len(), 3);
}

#[test]
fn no_message_holds_a_secret() {
    for text in [
        "user = \"hunter2\"",
        "user = \"a:hunter2\\u0007\"",
        "auth-secret = [\"hunter2\", \"hunter2\"]",
    ] {
        let problems = from_file(text).expect_err("a problem");
        assert!(!problems.to_string().contains("hunter2"), "{problems}");
    }
}

#[test]
fn nothing_at_all_gives_the_embedded_default() {
    let config = Config::new(&Settings::default()).expect("good");
    assert!(config.credentials.is_empty());
    let listen: Vec<String> =
        config.listen_or_default().iter().map(|given| given.value.to_string()).collect();
    assert_eq!(listen, ["0.0.0.0:3478", "[::]:3478"]);
    assert_eq!(config.relay_ports.value, 49152..=65535);
    assert_eq!(config.peer_policy, Profile::Public);
    assert!(config.busy_poll.is_zero());
    assert_eq!((config.max_allocations.value, config.max_channels.value), (65_536, 65_536));
    assert_eq!(
        config.admin.map(|given| given.value.to_string()).as_deref(),
        Some("127.0.0.1:9641")
    );
}

#[test]
fn a_file_with_every_key_is_taken() {
    // given
    let text = r#"
listen = ["192.0.2.7:3478", "[2001:db8::7]:3478"]
relay-ip = ["192.0.2.7", "2001:db8::7"]
external-ip = ["198.51.100.7=192.0.2.7"]
relay-ports = "50000-60000"
realm = "example.org"
user = ["alice:one:with:colons", "bob:two"]
auth-secret = ["old", "new"]
peer-policy = "lan"
allow-peer = ["10.1.0.0/16", "192.0.2.99"]
deny-peer = ["10.1.2.0/24"]
xdp = ["eth0", "eth1"]
xdp-mode = "native"
xdp-forward = "workers"
af-xdp = "copy"
cores = "0,2-3"
max-allocations = 10_000
max-channels = 20000
user-quota = 16
allocation-lifetime = 120
no-tcp = true
proxy-protocol-from = "10.9.0.0/24"
oauth-key = "north:MDEyMzQ1Njc4OWFiY2RlZg=="
oauth-server-name = "turn.example.org"
nonce-rotation = 7200
tcp-relay = true
mobility = true
nat-discovery = "192.0.2.8:3479"
alternate-server = "192.0.2.9:3478"
alternate-domain = "turn2.example.org"
redirect = false
software = "a relay"
busy-poll = 50
lanes = 16
max-connections = 1000
handshake-timeout = 5
idle-timeout = 50
max-tcp-peers = 100
drain-timeout = 0
admin = "off"
log-format = "json"
"#;
    // when
    let config = from_file(text).expect("a good file");
    // then
    let cores: Vec<usize> = config.cores.iter().map(|given| given.value).collect();
    assert_eq!(cores, [0, 2, 3]);
    assert_eq!(config.credentials.realm(), "example.org");
    assert_eq!((config.users, config.auth_secrets), (2, 2));
    assert_eq!(config.max_allocations.value, 10_000);
    assert_eq!(config.allocation_lifetime.as_secs(), 120);
    assert_eq!(config.allow_peers[1].value.to_string(), "192.0.2.99/32");
    assert!(config.admin.is_none());
    assert_eq!((config.busy_poll.as_micros(), config.lanes), (50, Some(16)));
    assert_eq!(config.log_format, LogFormat::Json);
    let third_party = config.credentials.third_party().expect("a third party");
    assert_eq!(third_party.server_name(), "turn.example.org");
    let (transports, features) = (&config.transports, &config.features);
    assert!(!transports.tcp && features.tcp_relay && features.mobility && !features.redirect);
    assert_eq!((transports.limits.connections, transports.timers.idle.as_secs()), (1000, 50));
    assert_eq!(features.software.as_deref(), Some("a relay"));
}
