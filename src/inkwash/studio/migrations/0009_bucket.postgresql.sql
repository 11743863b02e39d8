-- additive
alter table studio add column bucket boolean not null default false;
