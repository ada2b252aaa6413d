//! x
pub mod answers;
pub mod command;
pub mod console;
pub mod input;
pub mod live;
pub mod outbox;
pub mod polls;
pub mod screen;
pub mod style;
pub mod view;
