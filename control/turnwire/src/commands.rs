//! The commands that end by themselves: `check-config` and `credentials`.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::Duration;

use turn::credentials::rest_password;

use crate::cli::{CredentialsArgs, ServeArgs};
use crate::config::{AfXdp, Config, XdpForward, XdpMode};
use crate::host::Host;
use crate::ice;
use crate::plan::{Plan, ranges};
use crate::settings::secrets::{Secret, environment};
use crate::settings::{Given, Problem, Problems, Settings, Source, file, secrets};

/// What flags, the environment and the file give together.
///
/// # Errors
/// Every mistake in the file's form.
pub fn given(
    args: &ServeArgs,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Settings, Problems> {
    let mut settings = match &args.config {
        Some(path) => file::read(path)?,
        None => Settings::default(),
    };
    settings.overlay(environment(variable));
    settings.overlay(args.settings());
    Ok(settings)
}

/// The configuration that they make.
///
/// # Errors
/// Every mistake in them.
pub fn configuration(
    args: &ServeArgs,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Config, Problems> {
    Config::new(&given(args, variable)?)
}

/// Checks the file alone, and says what it would do here. What only this host lacks is a note,
/// since the file may be meant for another.
///
/// # Errors
/// Every mistake in the file.
pub fn check_config(path: &Path, host: &Host) -> Result<String, Problems> {
    let config = Config::new(&file::read(path)?)?;
    let mut text = format!("{} is good.\n", path.display());
    let fast = match (config.xdp_mode.value, config.xdp.as_slice()) {
        (XdpMode::Off, _) | (_, []) => "off".to_owned(),
        (_, names) => {
            let names: Vec<&str> = names.iter().map(|given| given.value.as_str()).collect();
            names.join(", ")
        }
    };
    let af_xdp = match (config.af_xdp.value, fast.as_str()) {
        (AfXdp::Off, _) | (_, "off") => "off",
        (AfXdp::Auto, _) => "where a driver does it without copies",
        (AfXdp::Copy, _) => "with copies",
        (AfXdp::ZeroCopy, _) => "without copies",
    };
    let forwards = match config.xdp_forward.value {
        XdpForward::Workers if af_xdp != "off" => "; workers forward channel traffic",
        _ => "",
    };
    let af_xdp = format!("{af_xdp}{forwards}");
    let credentials = match (config.users, config.auth_secrets) {
        (0, 0) => "none: a made-up user at each start".to_owned(),
        (users, secrets) => format!("{users} users, {secrets} secrets"),
    };
    let absent = config.xdp.iter().filter(|given| !(host.has_interface)(&given.value));
    let absent: Vec<String> = absent
        .map(|given| format!("{}: there is no interface {}", given.source, given.value))
        .collect();
    let mut line = |name: &str, value: &str| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {name:<12} {value}");
    };
    line("realm", config.credentials.realm());
    line("credentials", &credentials);
    line("fast path", &fast);
    line("AF_XDP", &af_xdp);
    for problem in &absent {
        line("not on this host", problem);
    }
    let tuning = tuning(&config);
    match Plan::new(config, host) {
        Ok(plan) => {
            line("listening", &join(&plan.listen));
            line("by TCP", &join_or(&plan.tcp_listen, "off"));
            line("by TLS", &join_or(&plan.tls_listen, "off: no certificate is given"));
            line("by DTLS", &join_or(&plan.dtls_listen, "off"));
            line("relay-ip", &join(&plan.relay_ips));
            line("cores", &if plan.cores.is_empty() { "any".into() } else { ranges(&plan.cores) });
            if !tuning.is_empty() {
                line("workers", &tuning);
            }
            for note in &plan.notes {
                line("note", note);
            }
        }
        Err(problems) => {
            for problem in &problems.0 {
                line("not on this host", &problem.to_string());
            }
        }
    }
    Ok(text)
}

/// What is asked of the workers that is not usual.
fn tuning(config: &Config) -> String {
    let all = [
        config.lanes.map(|lanes| format!("{lanes} lanes")),
        (!config.busy_poll.is_zero())
            .then(|| format!("busy polling for {} us", config.busy_poll.as_micros())),
    ];
    join(&all.into_iter().flatten().collect::<Vec<String>>())
}

fn join_or<T: ToString>(values: &[T], none: &str) -> String {
    if values.is_empty() { none.to_owned() } else { join(values) }
}

fn join<T: ToString>(values: &[T]) -> String {
    values.iter().map(ToString::to_string).collect::<Vec<String>>().join(", ")
}

/// Time-limited credentials.
#[derive(Debug)]
pub struct Made {
    /// `EXPIRY` or `EXPIRY:NAME`.
    pub username: String,
    /// What follows from the username and the secret.
    pub password: String,
}

impl Made {
    /// Credentials of `secret` that are valid for `ttl` from `unix` on.
    pub fn new(secret: &Secret, user: Option<&str>, unix: Duration, ttl: Duration) -> Made {
        let expiry = (unix + ttl).as_secs();
        let username = match user {
            Some(user) => format!("{expiry}:{user}"),
            None => expiry.to_string(),
        };
        let password = rest_password(secret.expose().as_bytes(), &username);
        Made { username, password }
    }
}

/// Makes credentials and says them, with an iceServers block.
///
/// # Errors
/// There is no secret, or a flag is wrong.
pub fn credentials(
    args: &CredentialsArgs,
    variable: &dyn Fn(&str) -> Option<String>,
    unix: Duration,
    host: &Host,
) -> Result<String, Problem> {
    let secret = secret(args, variable)?;
    let user = args.user.as_deref();
    if user.is_some_and(|user| user.is_empty() || user.chars().any(char::is_control)) {
        let message = "a name is not empty and has no control characters";
        return Err(Problem::new(&Source::Flag("user"), message));
    }
    let made = Made::new(&secret, user, unix, Duration::from_secs(args.ttl));
    let url = match &args.server {
        Some(server) => {
            ice::url(server).map_err(|message| Problem::new(&Source::Flag("server"), message))?
        }
        None => {
            let ip = host.relay_ip(true).or_else(|| host.relay_ip(false));
            let ip = ip.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
            ice::udp_url((ip, crate::config::PORT).into())
        }
    };
    let block = ice::servers_block(&[url], &made.username, &made.password);
    Ok(format!("username: {}\npassword: {}\n\n{block}\n", made.username, made.password))
}

fn secret(
    args: &CredentialsArgs,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Secret, Problem> {
    if let Some(secret) = &args.auth_secret {
        let parsed = crate::config::parse::auth_secret(secret);
        return parsed.map_err(|message| Problem::new(&Source::Flag("auth-secret"), message));
    }
    if let Some(path) = &args.auth_secret_file {
        let given = Given { value: path.clone(), source: Source::Flag("auth-secret-file") };
        let (entries, _) = secrets::read(&given)?;
        return Ok(Secret::new(entries[0].value.clone()));
    }
    let settings = environment(variable);
    match settings.all("auth-secret").first() {
        Some(given) => Ok(Secret::new(given.value.clone())),
        None => {
            let message = "the server's secret is needed: give it here, in --auth-secret-file, or \
                           in TURNWIRE_AUTH_SECRET";
            Err(Problem::new(&Source::Flag("auth-secret"), message))
        }
    }
}

#[cfg(test)]
mod tests;
