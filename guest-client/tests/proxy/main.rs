//! The credential proxy before a real upstream over TLS, asked by raw sockets: what goes on, what does not, and what an agent learns.

mod allowing;
mod pace;
mod scene;
mod secrecy;
mod smuggling;
mod streaming;
mod upstream;
