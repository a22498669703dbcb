//! The commands that end by themselves, from arguments to text.

use clap::Parser;

use super::*;
use crate::cli::{Cli, Command};
use crate::host::tests::host;

const UNIX: Duration = Duration::from_secs(1_000_000_000);

fn run(line: &[&str], variables: &[(&str, &str)]) -> Result<String, String> {
    let line = [&["turnwire", "credentials"], line].concat();
    let cli = Cli::try_parse_from(line).map_err(|error| error.to_string())?;
    let Command::Credentials(args) = cli.command else { panic!("credentials") };
    let lookup = |name: &str| {
        let found = variables.iter().find(|variable| variable.0 == name);
        found.map(|variable| variable.1.to_owned())
    };
    let host = host(&["lo 127.0.0.1/8", "eth0 192.0.2.7/24"]);
    credentials(&args, &lookup, UNIX, &host).map_err(|problem| problem.to_string())
}

#[test]
fn credentials_are_printed_with_an_ice_servers_block() {
    // The password is what `printf 1000003600:alice | openssl dgst -sha1 -hmac north -binary |
    // base64` says.
    let text = run(&["--auth-secret", "north", "--user", "alice", "--ttl", "3600"], &[]);
    assert_eq!(
        text.expect("credentials"),
        r#"username: 1000003600:alice
password: PASSWORD

{
  "iceServers": [
    {
      "credential": "PASSWORD",
      "urls": [
        "turn:192.0.2.7:3478?transport=udp"
      ],
      "username": "1000003600:alice"
    }
  ]
}
"#
        .replace("PASSWORD", "6SFMxaINWm0dPVKUiEIpM6jie7c=")
    );
}

#[test]
fn the_secret_may_come_from_the_environment_and_the_server_be_named() {
    let text = run(&["--server", "turn.example.org"], &[("TURNWIRE_AUTH_SECRET", "north")]);
    let text = text.expect("credentials");
    assert!(text.starts_with("username: 1000086400\n"), "{text}");
    assert!(text.contains("turn:turn.example.org:3478?transport=udp"), "{text}");
}

#[test]
fn what_is_wrong_is_told_by_its_flag() {
    for (line, message) in [
        (
            &[][..],
            "--auth-secret: the server's secret is needed: give it here, in --auth-secret-file, or \
             in TURNWIRE_AUTH_SECRET",
        ),
        (&["--auth-secret", ""], "--auth-secret: the secret is empty"),
        (
            &["--auth-secret", "a", "--server", "turn:b"],
            "--server: \"turn:b\" is not HOST or HOST:PORT, such as turn.example.org:3478",
        ),
        (
            &["--auth-secret", "a", "--user", ""],
            "--user: a name is not empty and has no control characters",
        ),
    ] {
        assert_eq!(run(line, &[]), Err(message.to_owned()));
    }
    assert!(run(&["--auth-secret", "a", "--ttl", "0"], &[]).is_err());
}

#[test]
fn flags_replace_the_environment_which_replaces_the_file() {
    // given
    let path = std::env::temp_dir().join(format!("turnwire-order-{}.toml", std::process::id()));
    std::fs::write(&path, "realm = \"file\"\nuser = [\"a:1\", \"b:2\"]\nxdp-mode = \"off\"\n")
        .expect("a file");
    let lookup = |name: &str| (name == "TURNWIRE_USER").then(|| "c:3".to_owned());
    let args = ServeArgs {
        config: Some(path.clone()),
        realm: Some("flag".to_owned()),
        ..ServeArgs::default()
    };
    // when
    let config = configuration(&args, &lookup).expect("a configuration");
    // then
    assert_eq!(config.credentials.realm(), "flag");
    assert_eq!(config.users, 1);
    assert_eq!(config.xdp_mode.value, XdpMode::Off);
    std::fs::remove_file(&path).expect("removed");
}

#[test]
fn check_config_tells_what_the_file_does_here() {
    // given
    let path = std::env::temp_dir().join(format!("turnwire-check-{}.toml", std::process::id()));
    let text = "relay-ip = \"198.51.100.7\"\nuser = \"a:b\"\nxdp = \"eth0,eth7\"\n\
                lanes = 64\nbusy-poll = 50\n";
    std::fs::write(&path, text).expect("a file");
    let here = path.display();
    // when
    let good = check_config(&path, &host(&["eth0 198.51.100.7/24"])).expect("good");
    let elsewhere = check_config(&path, &host(&["eth0 192.0.2.7/24"])).expect("good");
    // then
    assert!(good.starts_with(&format!("{here} is good.\n  realm        turnwire\n")), "{good}");
    assert!(good.contains("  credentials  1 users, 0 secrets\n"), "{good}");
    assert!(good.contains("  relay-ip     198.51.100.7\n"), "{good}");
    assert!(good.contains("  workers      64 lanes, busy polling for 50 us\n"), "{good}");
    let absent = format!("  not on this host {here}:3: xdp: there is no interface eth7\n");
    assert!(good.contains(&absent) && !good.contains("interface eth0"), "{good}");
    assert!(elsewhere.contains(&format!("not on this host {here}:1: relay-ip: ")), "{elsewhere}");
    std::fs::remove_file(&path).expect("removed");
}
