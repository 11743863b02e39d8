// validatorUrl would send the address of the studio to a host of Swagger's
SwaggerUIBundle({ url: new URL("./openapi.json", document.baseURI).href, dom_id: "#reference", deepLinking: true, validatorUrl: null });
