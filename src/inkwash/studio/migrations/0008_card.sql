-- additive
alter table models add column card json;
