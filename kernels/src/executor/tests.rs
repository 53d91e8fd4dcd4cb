mod limits;
mod payload;
mod plain;
mod slow_memory;
