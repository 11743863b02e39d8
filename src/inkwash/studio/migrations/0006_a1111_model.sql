alter table users add column a1111_model text;
