//! `turnwire-load` as its users run it: a child process against real servers on loopback, and
//! through a proxy that loses, reorders, repeats and damages datagrams by a seed.

mod coturn;
mod counters;
mod failures;
mod faults;
mod many;
mod pages;
mod proxy;
mod rates;
mod relay;
mod shapes;
mod sink;
mod tool;
mod wire;
mod xdp;
mod xdp_faults;
