//! The broker as one: a real store, a real log, guests that really attest on a soft platform under test roots.

mod carried;
mod decisions;
mod documents;
mod exchange;
mod feed;
mod feed_faults;
mod feed_tdx;
mod house;
mod http;
mod identity;
mod init;
mod kept;
mod ledger;
mod opening;
mod second_opinion;
mod store;
mod tcb_dates;
