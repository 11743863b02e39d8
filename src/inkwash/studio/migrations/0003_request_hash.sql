alter table jobs add column request_hash text;
