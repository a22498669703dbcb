//! `turnwire serve`: from flags to a running relay.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, anyhow};
use dataplane::link::socket::BusyPolling;
use dataplane::{Dataplane, Sessions, StartError, Tuning};
use mio::Waker;

use crate::admin::{self, metrics::About};
use crate::banner::{self, Guest};
use crate::cli::ServeArgs;
use crate::commands::given;
use crate::config::Config;
use crate::descriptors;
use crate::driver::{Driver, Outlet, Parts, Sleep};
use crate::host::Host;
use crate::listening::Listening;
use crate::nonce_keys::NonceKeys;
use crate::plan::{Plan, ranges};
use crate::random::System;
use crate::reload::Reloader;
use crate::server::{RESERVATIONS_MAX, server};
use crate::tier::{self, AfXdpTier, Tier};
use crate::{clock, log, sys};

/// Datagrams of each ring between a worker and the control thread: 1 MiB.
const RING_LEN: usize = 2048;
/// Permissions of each allocation, beside its channels', that the workers know at once.
const PERMISSIONS_EACH: usize = 4;
const SIGNALS: [libc::c_int; 4] = [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGUSR1];

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// Why the relay cannot start, or cannot go on.
pub fn serve(args: &ServeArgs) -> anyhow::Result<()> {
    let settings = given(args, &|name| std::env::var(name).ok())?;
    let config = Config::new(&settings)?;
    log::start(config.log_format).map_err(|wrong| anyhow!(wrong))?;
    let host = Host::look().context("this host's addresses cannot be read")?;
    let mut plan = Plan::new(config, &host)?;
    // Before any thread starts: they inherit what is blocked here.
    let signals = sys::signal_descriptor(&SIGNALS).context("signals cannot be taken")?;
    let (descriptors, note) = descriptors::raise(plan.allocations_possible());
    plan.notes.extend(note);

    let sleep = Sleep::new().context("the control thread cannot sleep")?;
    let waker = sleep.waker();
    let guest = guest(&mut plan)?;
    let usual = Tuning::default();
    let lanes = plan.config.lanes.unwrap_or(usual.lanes);
    let tuning = Tuning { busy_poll: plan.config.busy_poll, lanes, ..usual };
    let plane = Dataplane::start_tuned(plane_config(&plan, descriptors), tuning, waker.clone())
        .map_err(|error| not_started(&error, &plan))?;
    let listen = Listening::of(&plane);
    let mut tier = tier::choose(&plan, plane.listen_addresses().to_vec(), Arc::clone(&waker))
        .map_err(|wrong| anyhow!(wrong))?;
    let AfXdpTier { keeper, why, notable } =
        tier::af_xdp(&plan, &plane, &mut tier, Arc::clone(&waker));
    let (admin, questions) = start_admin(&plan, waker)?.unzip();

    tell_workers(&plane);
    tell_busy_polling(&plan, &plane);
    tell(&plan, &listen, admin, &tier);
    match notable {
        true => tracing::warn!(on = keeper.is_some(), why, "AF_XDP"),
        false => tracing::info!(on = keeper.is_some(), why, "AF_XDP"),
    }
    if let Some(guest) = &guest {
        print!("{}", banner::text(&plan, &listen, &tier, guest));
    }
    let about = about(&plan, &plane, &tier);
    let services = listen.addresses().chain(admin).collect();
    let nonce_keys = nonce_keys(&plan);
    let drain_timeout = plan.config.features.drain_timeout;
    let peers = sleep.peers(plan.config.features.tcp_peers);
    let peers = peers.context("the control thread cannot wait for peers")?;
    let dtls = !plan.dtls_listen.is_empty();
    let parts = Parts {
        sleep,
        signals,
        questions,
        server: server(plan, &host, services, &nonce_keys),
        outlet: Outlet::new(plane, tier.kernel, keeper, peers),
        about,
        reloader: Reloader::new(args.clone(), settings, guest, dtls),
        nonce_keys,
        drain_timeout,
    };
    let driver = Driver::new(parts).context("the control thread cannot wait for its events")?;
    driver.run()?;
    tracing::info!("ended");
    Ok(())
}

/// A made-up user, when nobody is configured.
fn guest(plan: &mut Plan) -> anyhow::Result<Option<Guest>> {
    if !plan.config.credentials.is_empty() {
        return Ok(None);
    }
    let guest = Guest::new(&mut System);
    plan.config.credentials.add_user(&guest.name, &guest.password)?;
    Ok(Some(guest))
}

/// Why the workers did not start: which setting it was, and what would help.
fn not_started(error: &StartError, plan: &Plan) -> anyhow::Error {
    let (StartError::Listen { address, source } | StartError::ListenTcp { address, source }) =
        error
    else {
        return anyhow!("{error}");
    };
    let place = plan.listener_source(*address).map_or(String::new(), |place| format!("{place}: "));
    let help = match source.kind() {
        io::ErrorKind::AddrInUse => "; another program listens there: ss -lnptu names it",
        io::ErrorKind::PermissionDenied => {
            "; a port below 1024 takes CAP_NET_BIND_SERVICE: grant it with setcap or \
             AmbientCapabilities"
        }
        _ => "",
    };
    anyhow!("{place}{error}{help}")
}

fn plane_config(plan: &Plan, descriptors: usize) -> dataplane::Config {
    dataplane::Config {
        cores: plan.cores.clone(),
        listen: plan.listen.clone(),
        routes_max: plan.config.max_channels.value,
        permits_max: permits_max(plan),
        ports_max: ports_max(plan).min(descriptors),
        ring_len: RING_LEN,
        sessions: sessions(plan),
    }
}

fn sessions(plan: &Plan) -> Sessions {
    let transports = &plan.config.transports;
    Sessions {
        tcp_listen: plan.tcp_listen.clone(),
        tls_listen: plan.tls_listen.clone(),
        dtls_listen: plan.dtls_listen.clone(),
        identity: transports.certificate.as_ref().map(|found| Arc::clone(&found.identity)),
        proxy_sources: transports.proxies.iter().map(|given| given.value).collect(),
        limits: transports.limits,
        timers: transports.timers,
    }
}

/// Entries for Send and Data indications: each relayed address, the permission that comes with each
/// channel, and a few permissions of each allocation besides, which is more than ICE agents use at
/// once. What is over goes by the control thread.
fn permits_max(plan: &Plan) -> usize {
    let config = &plan.config;
    ports_max(plan) + config.max_channels.value + PERMISSIONS_EACH * config.max_allocations.value
}

/// Relay ports that can be open at once: an allocation may have one of each family.
fn ports_max(plan: &Plan) -> usize {
    let families = [true, false].map(|v4| plan.relay_ips.iter().any(|ip| ip.is_ipv4() == v4));
    let families = families.into_iter().filter(|&there| there).count();
    let wanted = plan.config.max_allocations.value * families + RESERVATIONS_MAX;
    wanted.min(plan.ports_per_ip() * plan.relay_ips.len())
}

type Admin = (SocketAddr, std::sync::mpsc::Receiver<admin::Question>);

fn start_admin(plan: &Plan, waker: Arc<Waker>) -> anyhow::Result<Option<Admin>> {
    let Some(given) = &plan.config.admin else { return Ok(None) };
    let started = admin::start(given.value, waker).with_context(|| {
        format!("{}: the admin server cannot listen on {}", given.source, given.value)
    })?;
    Ok(Some(started))
}

fn nonce_keys(plan: &Plan) -> NonceKeys {
    let features = &plan.config.features;
    NonceKeys::new(features.nonce_secret.clone(), features.nonce_rotation, clock::unix())
}

fn about(plan: &Plan, plane: &Dataplane, tier: &Tier) -> About {
    About {
        tier: tier.name,
        interfaces: tier
            .interfaces
            .iter()
            .map(|one| (one.name.clone(), one.mode.to_string()))
            .collect(),
        cores: plane.workers().map(|worker| worker.core.filter(|_| worker.pinned)).collect(),
        allocations_max: plan.config.max_allocations.value,
        channels_max: plan.config.max_channels.value,
        relay_ports: plan.ports_per_ip() * plan.relay_ips.len(),
    }
}

/// Logs where the workers run.
fn tell_workers(plane: &Dataplane) {
    let all: Vec<_> = plane.workers().collect();
    let session_threads = plane.stats().sessions.len();
    let workers = &all[..all.len().saturating_sub(session_threads)];
    let cores: Vec<usize> = workers.iter().filter_map(|worker| worker.core).collect();
    let buffers = workers.iter().map(|worker| worker.listener_buffers.receive).min();
    let receive_buffer_bytes = buffers.unwrap_or(0);
    let lanes = workers.first().map_or(0, |worker| worker.lanes);
    let cores = if cores.is_empty() { "any".to_owned() } else { ranges(&cores) };
    tracing::info!(
        count = workers.len(),
        session_threads,
        cores,
        receive_buffer_bytes,
        lanes,
        "workers"
    );
    for core in all.iter().filter(|worker| !worker.pinned).filter_map(|worker| worker.core) {
        tracing::warn!(
            core,
            "a worker could not be pinned to its core, and runs where the system lets it"
        );
    }
}

/// Logs what became of `--busy-poll`; all workers are told the same.
fn tell_busy_polling(plan: &Plan, plane: &Dataplane) {
    let micros = plan.config.busy_poll.as_micros();
    let became = plane.workers().next().map_or(BusyPolling::Off, |worker| worker.busy_polling);
    if became == BusyPolling::On {
        tracing::info!(micros, "busy polling");
    }
    if let Some(note) = busy_polling_note(became) {
        tracing::warn!(micros, "{note}");
    }
}

/// What the operator should know of it.
fn busy_polling_note(became: BusyPolling) -> Option<String> {
    match became {
        BusyPolling::Off | BusyPolling::On => None,
        BusyPolling::SocketsAlone => Some(
            "this kernel (before Linux 6.9) busy polls while a worker waits only where \
             net.core.busy_poll is set"
                .to_owned(),
        ),
        BusyPolling::Refused(libc::EPERM) => Some(
            "no busy polling: this kernel asks for CAP_NET_ADMIN, which the process lacks; grant \
             it with setcap or AmbientCapabilities, or leave busy-poll out"
                .to_owned(),
        ),
        BusyPolling::Refused(number) => {
            let why = std::io::Error::from_raw_os_error(number);
            Some(format!("no busy polling: the kernel refused it: {why}"))
        }
    }
}

/// Logs what the relay does now.
fn tell(plan: &Plan, listen: &Listening, admin: Option<SocketAddr>, tier: &Tier) {
    for note in &plan.notes {
        tracing::warn!("{note}");
    }
    for (transport, address) in listen.iter() {
        tracing::info!(%address, transport, "listening");
    }
    for &ip in &plan.relay_ips {
        let advertised = plan.advertised(ip);
        let ports = &plan.config.relay_ports.value;
        let ports = format!("{}-{}", ports.start(), ports.end());
        tracing::info!(%ip, %advertised, ports, "relaying");
    }
    if let Some(address) = admin {
        tracing::info!(%address, "admin server listening");
    }
    let (tier_name, why) = (tier.name, &tier.why);
    if tier.fell_back {
        tracing::warn!(tier = tier_name, why, "serving, without the fast path that was asked for");
    } else {
        tracing::info!(tier = tier_name, why, "serving");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busy_polling_that_is_refused_is_told_with_what_would_help() {
        let cases = [
            (BusyPolling::Off, None),
            (BusyPolling::On, None),
            (BusyPolling::SocketsAlone, Some("net.core.busy_poll")),
            (BusyPolling::Refused(libc::EPERM), Some("CAP_NET_ADMIN")),
            (BusyPolling::Refused(libc::ENOPROTOOPT), Some("Protocol not available")),
        ];
        for (became, words) in cases {
            let note = busy_polling_note(became);
            assert_eq!(note.is_some(), words.is_some(), "{became:?}");
            assert!(note.unwrap_or_default().contains(words.unwrap_or("")), "{became:?}");
        }
    }
}
