// validatorUrl would send the address of the studio to a host of Swagger's
SwaggerUIBundle({ url: "/openapi.json", dom_id: "#reference", deepLinking: true, validatorUrl: null });
