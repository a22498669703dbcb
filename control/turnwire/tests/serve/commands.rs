//! What the program says and how it ends, when it does not serve.

use crate::relay::run_with;

#[test]
fn mistakes_stop_the_start_with_their_place() {
    for (args, error) in [
        (
            &["serve", "--relay-ports", "1-2-3"][..],
            "turnwire: --relay-ports: \"1-2-3\" is not LO-HI with 1024 <= LO <= HI <= 65535, such \
             as 49152-65535\n",
        ),
        (
            &["serve", "--listen", "0.0.0.0", "--user", "hunter2"],
            "turnwire: --user: a user is written NAME:PASSWORD, neither of them empty\n\
             turnwire: --listen: \"0.0.0.0\" needs a port, such as 0.0.0.0:3478\n",
        ),
        (
            &["serve", "--config", "/nonexistent/turnwire.toml"],
            "turnwire: /nonexistent/turnwire.toml: the configuration file cannot be read: No \
             such file or directory (os error 2)\n",
        ),
        (
            &[
                "serve",
                "--external-ip",
                "198.51.100.7",
                "--relay-ip",
                "127.0.0.1",
                "--relay-ip",
                "127.0.0.2",
            ],
            "turnwire: --external-ip: 198.51.100.7 could stand before each of 127.0.0.1, \
             127.0.0.2; write 198.51.100.7=127.0.0.1\n",
        ),
        (
            &["credentials"],
            "turnwire: --auth-secret: the server's secret is needed: give it here, in \
             --auth-secret-file, or in TURNWIRE_AUTH_SECRET\n",
        ),
    ] {
        assert_eq!(run_with(args), (Some(1), String::new(), error.to_owned()), "{args:?}");
    }
}

#[test]
fn a_flag_that_is_not_there_is_told_with_the_nearest_one() {
    let (code, _, error) = run_with(&["serve", "--relay-prots", "1-2"]);
    assert_eq!(code, Some(2));
    assert!(error.contains("a similar argument exists: '--relay-ports'"), "{error}");
}

#[test]
fn a_file_is_checked_without_serving() {
    // given
    let path = std::env::temp_dir().join(format!("turnwire-cli-{}.toml", std::process::id()));
    let name = path.display().to_string();
    std::fs::write(&path, "relay-ip = \"127.0.0.1\"\nrelm = \"x\"\n").expect("a file");
    // when, then
    let (code, _, error) = run_with(&["check-config", &name]);
    let expected = format!("turnwire: {name}:2: relm: there is no such key; did you mean realm?\n");
    assert_eq!((code, error), (Some(1), expected));
    std::fs::write(&path, "relay-ip = \"127.0.0.1\"\nlisten = \"127.0.0.1:3478\"\n")
        .expect("a file");
    let (code, text, error) = run_with(&["check-config", &name]);
    assert_eq!((code, error), (Some(0), String::new()));
    assert!(text.starts_with(&format!("{name} is good.\n")), "{text}");
    assert!(text.contains("  listening    127.0.0.1:3478\n"), "{text}");
    std::fs::remove_file(&path).expect("removed");
}

#[test]
fn the_help_names_every_command_and_the_version_is_told() {
    let (code, text, _) = run_with(&["--help"]);
    assert_eq!(code, Some(0));
    for command in ["serve", "check-config", "credentials"] {
        assert!(text.contains(command), "{command}");
    }
    let (_, text, _) = run_with(&["--version"]);
    assert_eq!(text, format!("turnwire {}\n", env!("CARGO_PKG_VERSION")));
}
